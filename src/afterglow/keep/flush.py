"""Writing what changed: exactly the marks that are there, a chunk a transaction.

The lock of the overlay is held while marks are taken and cleared, never while anything is
encoded or written. Two flushes at once follow each other, so that none writes what is older.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from afterglow.clock import Clock, breathe
from afterglow.errors import AfterglowError
from afterglow.keep.backend import Backend, Changes, Coactivation, Put, Written
from afterglow.keep.dirty import Key, Mark, Overlay, PairMark, Taken

__all__ = ["FlushReport", "Flusher"]

#: A chunk is what other writers wait for, and the piece in which we hold up our own program.
_CHUNK_ENTRIES: Final = 256
_CHUNK_BYTES: Final = 1 << 20


class FlushReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a flush wrote: `entries` stored or reinforced, `links` counted, `tombstones` for
    deleted ones; `encodes`, records that were turned into rows; `rows` of any table.

    `missing`: reinforcements and links that came to nothing, for others removed the entry.
    `set_aside`: ids that the database would not take; they were given up, and reported.
    """

    entries: int = 0
    links: int = 0
    tombstones: int = 0
    encodes: int = 0
    rows: int = 0
    chunks: int = 0
    missing: int = 0
    set_aside: tuple[str, ...] = ()


class _Chunk(msgspec.Struct):
    """The marks of one transaction, in the order in which they are written."""

    marks: list[tuple[str, Mark]]
    pairs: list[tuple[Key, PairMark]]
    size: int = 0

    def __len__(self) -> int:
        return len(self.marks) + len(self.pairs)

    def halves(self) -> tuple[_Chunk, _Chunk]:
        marks, pairs = len(self.marks), len(self.pairs)
        if marks > 1 or not pairs:
            middle = (marks + 1) // 2
            return _Chunk(self.marks[:middle], []), _Chunk(self.marks[middle:], self.pairs)
        if marks:
            return _Chunk(self.marks, []), _Chunk([], self.pairs)
        middle = (pairs + 1) // 2
        return _Chunk([], self.pairs[:middle]), _Chunk([], self.pairs[middle:])


class Flusher:
    """Writes the marks of an overlay into a back end. Any thread may call `flush`."""

    def __init__(
        self, backend: Backend, overlay: Overlay, clock: Clock, counters: Counter[str]
    ) -> None:
        self._backend = backend
        self._overlay = overlay
        self._clock = clock
        self._counters = counters
        #: Held during a whole flush; readers never take it.
        self._flushing = threading.Lock()

    def flush(self) -> FlushReport:
        """Write all that is marked now. Raises StoreError; what was not written stays marked."""
        with self._flushing:
            with self._overlay.lock:
                taken = self._overlay.taken()
            total = _Totals()
            for chunk in self._chunks(taken):
                if total.chunks:
                    breathe()
                try:
                    self._write(chunk, total)
                except AfterglowError:
                    self._counters["flush_errors"] += 1
                    raise
            return total.report()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside, nothing is flushed."""
        with self._flushing:
            yield

    def _chunks(self, taken: Taken) -> Iterator[_Chunk]:
        """The marks of these names as they are when their turn comes: never older than when
        they were taken. What severs goes first, for it would take along what was written
        before it; links go last, for they need both entries."""
        chunk = _Chunk([], [])
        for names, severing in ((taken.severing, True), (taken.marks, False)):
            for start in range(0, len(names), _CHUNK_ENTRIES):
                for item in self._look(names[start : start + _CHUNK_ENTRIES], taken, severing):
                    chunk.marks.append(item)
                    chunk.size += item[1].size
                    if len(chunk) >= _CHUNK_ENTRIES or chunk.size >= _CHUNK_BYTES:
                        yield chunk
                        chunk = _Chunk([], [])
            if severing and any(mark.comes_twice for _, mark in chunk.marks):
                yield chunk
                chunk = _Chunk([], [])
        for start in range(0, len(taken.pairs), _CHUNK_ENTRIES):
            chunk.pairs += self._look_at_pairs(taken.pairs[start : start + _CHUNK_ENTRIES], taken)
            if len(chunk) >= _CHUNK_ENTRIES:
                yield chunk
                chunk = _Chunk([], [])
        if len(chunk):
            yield chunk

    def _look(self, names: list[str], taken: Taken, severing: bool) -> list[tuple[str, Mark]]:
        """Leaves out what was severed since it was taken: that is the next flush's."""
        marks = self._overlay.marks
        with self._overlay.lock:
            return [
                (name, mark)
                for name in names
                if (mark := marks.get(name)) is not None
                and (mark.severs is severing if severing else not mark.severs)
            ]

    def _look_at_pairs(self, keys: list[Key], taken: Taken) -> list[tuple[Key, PairMark]]:
        """Leaves out what was severed since and came anew."""
        pairs = self._overlay.pairs
        with self._overlay.lock:
            return [
                (key, pair)
                for key in keys
                if (pair := pairs.get(key)) is not None and pair.born <= taken.version
            ]

    def _write(self, chunk: _Chunk, total: _Totals) -> None:
        """Write a chunk; what the database will not take is found by halving, and set aside."""
        overlay = self._overlay
        with overlay.lock:
            ingested = overlay.ingested
            overlay.in_flight = True
        try:
            changes = _changes(chunk, ingested)
            written = self._backend.apply(changes, self._clock.wall_ns())
        except AfterglowError:
            overlay.in_flight = False
            raise
        except Exception:  # noqa: BLE001  whatever a driver says of a value
            overlay.in_flight = False
            if len(chunk) == 1:
                self._set_aside(chunk, total)
                return
            for half in chunk.halves():
                self._write(half, total)
            return
        except BaseException:
            overlay.in_flight = False
            raise
        self._settle(chunk, ingested)
        total.add(changes, written)
        self._counters["flushed"] += written.entries
        self._counters["missing"] += written.missing

    def _settle(self, chunk: _Chunk, ingested: int) -> None:
        overlay = self._overlay
        with overlay.lock:
            for trace_id, mark in chunk.marks:
                overlay.settle(trace_id, mark)
            for key, pair in chunk.pairs:
                overlay.settle_pair(key, pair)
            overlay.ingested -= ingested
            overlay.cleared += 1
            overlay.in_flight = False

    def _set_aside(self, chunk: _Chunk, total: _Totals) -> None:
        with self._overlay.lock:
            self._overlay.give_up(chunk.marks, chunk.pairs)
        total.set_aside += [trace_id for trace_id, _ in chunk.marks]
        total.set_aside += ["/".join(key) for key, _ in chunk.pairs]
        self._counters["set_aside"] += 1


class _Totals:
    """What the chunks of a flush come to."""

    def __init__(self) -> None:
        self.written = Written()
        self.encodes = 0
        self.chunks = 0
        self.set_aside: list[str] = []

    def add(self, changes: Changes, written: Written) -> None:
        total = self.written
        total.rows += written.rows
        total.entries += written.entries
        total.links += written.links
        total.tombstones += written.tombstones
        total.missing += written.missing
        self.encodes += len(changes.puts) + len(changes.touched)
        self.chunks += 1

    def report(self) -> FlushReport:
        total = self.written
        return FlushReport(
            entries=total.entries,
            links=total.links,
            tombstones=total.tombstones,
            encodes=self.encodes,
            rows=total.rows,
            chunks=self.chunks,
            missing=total.missing,
            set_aside=tuple(self.set_aside),
        )


def _changes(chunk: _Chunk, ingested: int) -> Changes:
    gone: list[str] = []
    puts: list[Put] = []
    touched = []
    for trace_id, mark in chunk.marks:
        if mark.record is None:
            gone.append(trace_id)
        elif mark.how == "put":
            puts.append(Put(mark.record, mark.fresh_at > 0))
        else:
            touched.append(mark.record)
    links = [Coactivation(a, b, pair.times, pair.link) for (a, b), pair in chunk.pairs]
    return Changes(gone=gone, puts=puts, touched=touched, links=links, ingested=ingested)
