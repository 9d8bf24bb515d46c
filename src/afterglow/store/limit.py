"""The bound on journals that nobody reads: the oldest closed ones go, and are counted.

The spans in a journal that goes had been written; in the books of their process they move to
dropped, `journal_limit`. For our own process the writer does that. The books of a process that
is dead are in its newest batch, so one more batch goes behind that; and where its last journal
goes, this one batch stays in its place: the run is still listed, its books still balance.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, cast

from afterglow.errors import DamagedStoreError
from afterglow.ledger import Ledger
from afterglow.ports import SpanBatch
from afterglow.store.columns import BatchHead, decode_head, encode_batch
from afterglow.store.journal_files import Journal, journals_in
from afterglow.store.schema import connect

__all__ = ["make_room"]

_BUSY_MS: Final = 1_000
_HELPERS: Final = ("", "-wal")


def make_room(folder: Path, own: str, most_bytes: int) -> list[Path]:
    """Delete the oldest closed journals until all that is there takes at most `most_bytes`.

    Returns those of the writer `own` that went. Live processes each look when they begin a
    journal, so that together they may be beyond the bound by one journal each. Does nothing
    while somebody folds, who removes journals too. Raises OSError or sqlite3.Error.
    """
    sizes = {entry.path: entry.stat().st_size for entry in os.scandir(folder)}
    total = sum(sizes.values())
    if total <= most_bytes:
        return []
    gone: list[Path] = []
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        journals = journals_in(folder)
        for journal in _oldest_first(journals):
            if total <= most_bytes:
                break
            before = _size(journal.path)
            if journal.writer == own:
                journal.remove()
                gone.append(journal.path)
            else:
                _bury(journal, _newest_of(journal.writer, journals))
            total -= before - _size(journal.path)
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
    return gone


def _size(path: Path) -> int:
    total = 0
    for helper in _HELPERS:
        with suppress(FileNotFoundError):
            total += path.with_name(path.name + helper).stat().st_size
    return total


def _oldest_first(journals: Iterable[Journal]) -> list[Journal]:
    closed = [journal for journal in journals if journal.closed]
    # Those of one writer were closed in the order of their numbers, whatever the clock says.
    return sorted(closed, key=lambda j: (_modified_ns(j.path), j.writer, j.number))


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _newest_of(writer: str, journals: Iterable[Journal]) -> Journal:
    return max((j for j in journals if j.writer == writer), key=lambda j: j.number)


def _bury(journal: Journal, newest: Journal) -> None:
    """Remove a dead process's journal, and leave a note of what was in it."""
    try:
        spans = _spans_in(journal.path)
        if spans:
            _note(newest.path, spans, instead=newest.path == journal.path)
    except (sqlite3.DatabaseError, DamagedStoreError):
        spans = 0  # it cannot be read: nor can anybody else
    if not spans or newest.path != journal.path:
        journal.remove()


def _spans_in(path: Path) -> int:
    """How many spans a journal holds: what its last batch adds to the books of its first."""
    with closing(connect(path, "rw", busy_ms=_BUSY_MS)) as connection:
        ends = [
            connection.execute(f"SELECT body FROM batches ORDER BY seq {way} LIMIT 1").fetchone()
            for way in ("ASC", "DESC")
        ]
    if ends[0] is None:
        return 0
    first, last = (decode_head(body) for (body,) in ends)
    return _ever_written(last) - _ever_written(first) + first.spans


def _ever_written(head: BatchHead) -> int:
    written: int = head.ledger["written"] + head.ledger["dropped"].get("journal_limit", 0)
    return written


def _note(path: Path, spans: int, *, instead: bool) -> None:
    """Add a batch whose books say that so many written spans are gone; `instead` of all others."""
    with closing(connect(path, "rw", busy_ms=_BUSY_MS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        seq, body = connection.execute(
            "SELECT seq, body FROM batches ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        head = decode_head(body)
        if instead:
            connection.execute("DELETE FROM batches")
        connection.execute(
            "INSERT INTO batches(seq, body) VALUES (?, ?)", (seq + 1, _without(head, spans))
        )
        connection.execute("COMMIT")
        if instead:
            connection.execute("VACUUM")


def _without(head: BatchHead, spans: int) -> bytes:
    ledger = head.ledger
    dropped = dict(ledger["dropped"])
    dropped["journal_limit"] = dropped.get("journal_limit", 0) + spans
    books = {**ledger, "written": ledger["written"] - spans, "dropped": dropped}
    return encode_batch(
        SpanBatch(
            [],
            None,
            head.process,
            head.seed,
            head.wall_offset_ns,
            cast(Ledger, books),
            head.counts,
            head.last,
        )
    )
