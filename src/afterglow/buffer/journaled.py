"""A buffer in memory that survives `kill -9`: what it acknowledges is in a journal first.

Opening reads the journal again. Spans that had gone are not held again, and are known as repeats
for as long as the journal says so; all others are held, with the time at which they came.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from afterglow.assembly import subsegments
from afterglow.buffer.held_books import HeldBooks
from afterglow.buffer.intake_journal import (
    Gone,
    IntakeJournal,
    read_came,
    read_gone,
    read_header,
)
from afterglow.buffer.memory import MemoryBuffer
from afterglow.config.buffer import BufferConfig
from afterglow.config.intake import IntakeConfig
from afterglow.model.segment import BufferBooks, BufferedSpan
from afterglow.spool import START, Position, Spool
from afterglow.spool.reading import look_into
from afterglow.store.columns import zstd

__all__ = ["JournaledBuffer", "books_in"]

_Key = tuple[str, bytes]
_FOR_EVER_NS = 1 << 62
_DAMAGED = (msgspec.DecodeError, zstd.ZstdError, ValueError)


class JournaledBuffer(MemoryBuffer):
    """A MemoryBuffer over a folder, which it has alone. Close it.

    When `add` returns, accepted spans survive the death of the process; what `acknowledge` counted
    never comes again. A disk that is full, and a journal beyond its bound, are refusals. `report`
    gets a line for what is wrong with the folder; what is damaged in it is lost, and said.

    Raises SpoolBusyError where another process has the folder, and SpoolError.
    """

    def __init__(self, journal: IntakeJournal, config: BufferConfig) -> None:
        super().__init__(config, journal=journal)
        self._intake = journal

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        config: BufferConfig | None = None,
        intake: IntakeConfig | None = None,
        *,
        now_ns: int | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> Self:
        """The buffer of a folder, with what it held, which came by `now_ns` at the latest: a clock
        that was set back since must not hold it up."""
        intake = intake or IntakeConfig()
        spool = Spool(
            folder, max_file_bytes=intake.max_file_bytes, fsync=intake.fsync, report=report
        )
        try:
            journal = IntakeJournal(spool, max_bytes=intake.max_bytes, report=report)
            buffer = cls(journal, config or BufferConfig())
            journal.books = lambda: buffer._books
            buffer._replay(spool, _FOR_EVER_NS if now_ns is None else now_ns, report)
            spool.begin_file()
        except BaseException:
            spool.close()
            raise
        return buffer

    @property
    def journal_bytes(self) -> int:
        """What the journal takes on the disk."""
        return self._intake.spool.size_bytes

    def close(self) -> None:
        """Take nothing in any more, and let another process have the folder. May be called twice.

        What is held stays in the journal; what is acknowledged after this comes again.
        """
        super().close()
        with self._lock:
            self._intake.spool.close()

    def _replay(self, spool: Spool, now_ns: int, report: Callable[[str], None]) -> None:
        gone = _GoneSpans()
        for file, one in read_gone(spool.read()):
            gone.add(one)
            until_ns = min(one.until_ns, now_ns + self._tombstone_ns)
            self._intake.restored(file, 0, until_ns)
            if self._tombstone_ns:
                key = (one.project, one.trace_id)
                self._remembered.add(key, one.root_span_id, one.span_ids, until_ns)
        files = spool.files()
        first = read_header(files[0].header) if files else None
        books = first or HeldBooks()
        held = self._books = HeldBooks()
        unreadable = 0
        for at, record in spool.read():
            try:
                came = read_came(record)
            except _DAMAGED:
                unreadable += 1
                continue
            if came is not None:
                came_ns, spans = came
                self._hold_again(at, min(came_ns, now_ns), spans, gone, books)
        for project, reasons in held.dropped.items():
            for reason, count in reasons.items():
                books.ended(project, count, reason)
        gone.count_in(books)
        beyond = books.settle(held.held)
        self._books = books
        if unreadable or beyond:
            report(
                f"{spool.folder}: {unreadable} records cannot be read; {beyond} spans that went "
                "out are in none, and are counted as ingested"
            )

    def _hold_again(
        self,
        at: Position,
        came_ns: int,
        spans: list[BufferedSpan],
        gone: _GoneSpans,
        books: HeldBooks,
    ) -> None:
        for project, count in Counter(span.project for span in spans).items():
            books.took(project, count)
        left = [span for span in spans if span not in gone]
        if not left:
            return
        found, dropped = self._sorted(left, came_ns)
        held = sum(len(one.payloads) for one in found)
        self._hold(found, dropped, came_ns, at.file)
        self._intake.restored(at.file, held, 0)


class _GoneSpans:
    """Every span that went, as far as the journal says."""

    def __init__(self) -> None:
        self._ids: defaultdict[_Key, set[bytes]] = defaultdict(set)
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def add(self, one: Gone) -> None:
        ids = one.span_ids
        found = [ids[at : at + 8] for at in range(0, len(ids), 8)]
        self._ids[one.project, one.trace_id].update(found)
        self._counts[one.project, one.dropped] += len(found)

    def __contains__(self, span: BufferedSpan) -> bool:
        ids = self._ids.get((span.project, span.trace_id))
        return ids is not None and span.span_id in ids

    def count_in(self, books: HeldBooks) -> None:
        for (project, dropped), count in self._counts.items():
            books.ended(project, count, dropped)


def books_in(folder: Path) -> BufferBooks | None:
    """The books that the journal in a folder comes to; None where there is none.

    Another process may be writing it. What it holds twice counts as a repeat that was dropped.
    Raises SpoolError.
    """
    first: HeldBooks | None = None
    gone = _GoneSpans()
    last = START
    for at, body, is_header in look_into(folder):
        last = at
        if is_header:
            first = first or read_header(body)
            continue
        for _, one in read_gone([(at, body)]):
            gone.add(one)
    if last == START:
        return None
    books = first or HeldBooks()
    held: defaultdict[str, set[tuple[bytes, bytes]]] = defaultdict(set)
    for at, body, is_header in look_into(folder):
        if is_header or at > last:
            continue  # came since we looked for what went
        spans = _came_in(body)
        for project, count in Counter(span.project for span in spans).items():
            books.took(project, count)
        left = [span for span in spans if span not in gone]
        found, dropped = subsegments(left, 0, BufferConfig())
        for project, reasons in dropped.items():
            for reason, count in reasons.items():
                books.ended(project, count, reason)
        for part in found:
            ids = part.entry.span_ids
            held[part.project].update(
                (part.trace_id, ids[byte : byte + 8]) for byte in range(0, len(ids), 8)
            )
    gone.count_in(books)
    books.settle({project: len(ids) for project, ids in held.items()})
    return books.read()


def _came_in(record: bytes) -> list[BufferedSpan]:
    try:
        came = read_came(record)
    except _DAMAGED:
        return []
    return came[1] if came is not None else []
