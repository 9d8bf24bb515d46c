"""Entries of the index, chunks and records of what went out, as bytes and back. Pure.

An entry is a header, then the edges (span ids, parents, flags, sizes), then the payloads of all
its spans as one blob. A small one rides in the index as it is. A large one is a *chunk* under keys
of its own, and the index holds its header and its id. What is left of an entry that went out in
part is the same bytes behind a list of the positions that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from afterglow.assembly import Entry

__all__ = [
    "COLOCATED",
    "DISTRIBUTED",
    "INLINE",
    "RAW",
    "Record",
    "Stored",
    "chunk_id",
    "edges_end",
    "encode",
    "encode_left",
    "encode_record",
    "parse",
    "parse_records",
    "parse_reference",
    "reference",
]

#: Where the payload is.
INLINE, COLOCATED, DISTRIBUTED = 1, 2, 4
_PLACES = INLINE | COLOCATED | DISTRIBUTED
#: How the rest is written: the blob is not compressed; a span is marked; a size needs 4 bytes.
RAW, _MARKED, _WIDE = 8, 16, 32

_VERSION, _LEFT_VERSION = 1, 2
#: Version, flags, number of spans, time, id of the zstd dictionary (0: none).
_HEADER = Struct("<BBIQI")
_HEAD = _HEADER.size
CHUNK_ID_BYTES = 12
_LEFT = Struct("<BQI")
#: Generation, token, time, root, number of span ids, number of chunk ids.
_RECORD = Struct("<QQQ8sII")


class Stored(NamedTuple):
    """An entry as it lies in the index, with what is known of it without fetching its chunk.

    `entry` is None while the edges are in a chunk that was not read. `blob` is the payload, None
    likewise. `raw` is the member of the list, for giving back what is left of it.
    """

    entry: Entry | None
    places: int
    n_spans: int
    time_ns: int
    left: tuple[int, ...] | None
    chunk: bytes
    dictionary: int
    is_raw: bool
    blob: bytes | None
    raw: bytes

    @property
    def n_left(self) -> int:
        """How many spans it holds."""
        return self.n_spans if self.left is None else len(self.left)


@cache
def _sizes(n: int, wide: bool) -> Struct:
    return Struct(f"<{n}{'I' if wide else 'H'}")


def encode(
    time_ns: int,
    ids: bytes,
    parents: bytes,
    flags: bytes,
    sizes: Sequence[int],
    blob: bytes,
    *,
    raw: bool,
    dictionary: int = 0,
) -> bytes:
    """An entry with its payload: what rides in the index, and what lies under a chunk's keys."""
    n = len(flags)
    bits = INLINE
    if raw:
        bits |= RAW
    wide = max(sizes) > 0xFFFF
    if wide:
        bits |= _WIDE
    packed = _sizes(n, wide).pack(*sizes)
    if any(flags):
        bits |= _MARKED
        header = _HEADER.pack(_VERSION, bits, n, time_ns, dictionary)
        return b"".join((header, ids, parents, flags, packed, blob))
    header = _HEADER.pack(_VERSION, bits, n, time_ns, dictionary)
    return b"".join((header, ids, parents, packed, blob))


def reference(encoded: bytes, places: int, chunk: bytes) -> bytes:
    """The entry of the index for an encoded chunk that lies in `places`."""
    version, bits, n, time_ns, dictionary = _HEADER.unpack_from(encoded)
    return _HEADER.pack(version, bits & ~_PLACES | places, n, time_ns, dictionary) + chunk


def chunk_id(encoded: bytes) -> bytes:
    """The id of an encoded chunk, whenever it came: a batch that comes again writes no new key.

    It covers payloads too: a span that comes again with another one must not replace the first.
    """
    return blake2b(memoryview(encoded)[_HEAD:], digest_size=CHUNK_ID_BYTES).digest()


def edges_end(stored: Stored) -> int:
    """How many bytes of a chunk have the header and the edges of the entry that refers to it."""
    bits = _flags(stored.raw)
    return _HEAD + stored.n_spans * _edge_bytes(bits)


def parse(member: bytes) -> Stored:
    """An entry of the index."""
    left: tuple[int, ...] | None = None
    at = 0
    if member[0] == _LEFT_VERSION:
        _, _, count = _LEFT.unpack_from(member)
        at = _LEFT.size + 4 * count
        left = _sizes(count, True).unpack_from(member, _LEFT.size)
    _, bits, n, time_ns, dictionary = _HEADER.unpack_from(member, at)
    places = bits & _PLACES
    is_raw = bool(bits & RAW)
    if places != INLINE:
        chunk = member[at + _HEAD :]
        return Stored(None, places, n, time_ns, left, chunk, dictionary, is_raw, None, member)
    entry, end = _edges(member, at, bits, n, time_ns, left)
    return Stored(entry, places, n, time_ns, left, b"", dictionary, is_raw, member[end:], member)


def parse_reference(stored: Stored, chunk: bytes) -> Stored:
    """An entry together with its chunk, or with the edges of that alone (then `blob` is empty)."""
    _, bits, n, _, dictionary = _HEADER.unpack_from(chunk)
    entry, end = _edges(chunk, 0, bits, n, stored.time_ns, stored.left)
    return stored._replace(
        entry=entry, dictionary=dictionary, is_raw=bool(bits & RAW), blob=chunk[end:]
    )


def _edges(
    member: bytes, at: int, bits: int, n: int, time_ns: int, left: tuple[int, ...] | None
) -> tuple[Entry, int]:
    begin = at + _HEAD
    parents = begin + 8 * n
    flags = parents + 8 * n
    if bits & _MARKED:
        sizes = flags + n
        marks = member[flags:sizes]
    else:
        sizes = flags
        marks = bytes(n)
    layout = _sizes(n, bool(bits & _WIDE))
    entry = Entry(
        time_ns,
        member[begin:parents],
        member[parents:flags],
        marks,
        layout.unpack_from(member, sizes),
        left,
    )
    return entry, sizes + layout.size


def _edge_bytes(bits: int) -> int:
    return 16 + bool(bits & _MARKED) + (4 if bits & _WIDE else 2)


def _flags(member: bytes) -> int:
    at = 1
    if member[0] == _LEFT_VERSION:
        count: int = _LEFT.unpack_from(member)[2]
        at += _LEFT.size + 4 * count
    return member[at]


def encode_left(stored: Stored, left: Sequence[int], generation: int) -> bytes:
    """What is left of an entry after a generation went out: positions of it, ascending."""
    original = stored.raw
    if original[0] == _LEFT_VERSION:
        _, _, count = _LEFT.unpack_from(original)
        original = original[_LEFT.size + 4 * count :]
    head = _LEFT.pack(_LEFT_VERSION, generation, len(left))
    return head + _sizes(len(left), True).pack(*left) + original


class Record(NamedTuple):
    """What went out of a trace with one part: span ids and their root, or ids of chunks."""

    generation: int
    token: int
    time_ns: int
    root_span_id: bytes
    span_ids: bytes
    chunks: frozenset[bytes]


def encode_record(
    fence: tuple[int, int],
    time_ns: int,
    root_span_id: bytes,
    span_ids: Iterable[bytes],
    chunks: Sequence[bytes] = (),
) -> bytes:
    """One record; several stand one behind the other. `fence` is generation and token."""
    ids = b"".join(span_ids)
    head = _RECORD.pack(*fence, time_ns, root_span_id, len(ids) // 8, len(chunks))
    return b"".join((head, ids, *chunks))


def parse_records(records: bytes) -> list[Record]:
    """Records that stand one behind the other."""
    found = []
    at = 0
    while at < len(records):
        generation, token, time_ns, root, n_ids, n_chunks = _RECORD.unpack_from(records, at)
        begin = at + _RECORD.size
        middle = begin + 8 * n_ids
        at = middle + CHUNK_ID_BYTES * n_chunks
        chunks = frozenset(
            records[i : i + CHUNK_ID_BYTES] for i in range(middle, at, CHUNK_ID_BYTES)
        )
        found.append(Record(generation, token, time_ns, root, records[begin:middle], chunks))
    return found
