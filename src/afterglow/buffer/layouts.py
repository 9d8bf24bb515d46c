"""The two payload layouts, and which of them each phase of the rollout writes and reads.

0 colocated; 1 write both, read colocated; 2 write both, read distributed; 3 distributed. An entry
of the index says which layouts hold its chunk; reading follows that, and the phase only decides
between two that both do. What one call uses is made once, and passed along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from afterglow.buffer.codec import COLOCATED, DISTRIBUTED
from afterglow.buffer.keys import Keys

__all__ = ["ChunkReader", "ChunkWriter", "reader_of", "writer_of"]

#: What each phase writes, and which it reads first.
_WRITES: Final = {
    0: (COLOCATED,),
    1: (COLOCATED, DISTRIBUTED),
    2: (COLOCATED, DISTRIBUTED),
    3: (DISTRIBUTED,),
}
_READS_FIRST: Final = {0: COLOCATED, 1: COLOCATED, 2: DISTRIBUTED, 3: DISTRIBUTED}

_KeyOf = Callable[[bytes, bytes], bytes]


class ChunkWriter(NamedTuple):
    """Where a call puts chunks: `places` as flags of the entry, `key_of` one function each."""

    places: int
    key_of: tuple[_KeyOf, ...]

    def keys(self, name: bytes, chunk: bytes) -> list[bytes]:
        """The keys that a chunk of a trace is written to."""
        return [key_of(name, chunk) for key_of in self.key_of]


class ChunkReader(NamedTuple):
    """Where a call looks for chunks, in order of preference."""

    order: tuple[tuple[int, _KeyOf], ...]

    def keys(self, places: int, name: bytes, chunk: bytes) -> list[bytes]:
        """The keys that hold a chunk, the one to read first."""
        return [key_of(name, chunk) for place, key_of in self.order if places & place]


def writer_of(phase: int, keys: Keys) -> ChunkWriter:
    """The writing half of a phase."""
    functions = _functions(keys)
    places = _WRITES[phase]
    return ChunkWriter(sum(places), tuple(functions[place] for place in places))


def reader_of(phase: int, keys: Keys) -> ChunkReader:
    """The reading half of a phase."""
    functions = _functions(keys)
    first = _READS_FIRST[phase]
    order = sorted(functions, key=lambda place: place != first)
    return ChunkReader(tuple((place, functions[place]) for place in order))


def _functions(keys: Keys) -> dict[int, _KeyOf]:
    return {COLOCATED: keys.colocated, DISTRIBUTED: keys.distributed}
