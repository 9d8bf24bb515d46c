"""Folding: what is new in the journals goes into the named file, and read journals go away.

Each portion is one transaction: spans, books, counts and how far the journal was folded are
committed together, so a fold may be killed anywhere and begun again by anybody. A journal is
removed only after all of it is committed and nothing more can come to it. What cannot be read
is counted, and its journal is set aside rather than deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.errors import DamagedStoreError
from afterglow.model.run import Process
from afterglow.store.columns import OPEN_AS_BEFORE, BatchHead, decode_batch
from afterglow.store.insert import insert_portion, put_process, refresh_run, write_books
from afterglow.store.journal_files import (
    Journal,
    UnreadableJournalError,
    alive,
    folding,
    journals_in,
    remove_dead_locks,
)
from afterglow.store.rows import Rows, rows_of_columns
from afterglow.store.schema import initialise, journals_of

__all__ = ["Folded", "fold"]

#: Spans of one transaction: what is held in memory at once (some 40 MB).
_PORTION: Final = 24_576

_ADD_TO_LEDGER: Final = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET spans = spans + excluded.spans"
)

Progress = Callable[[int, int], None]


class Folded(msgspec.Struct):
    """What a fold did."""

    spans: int = 0
    batches: int = 0
    journals_removed: int = 0
    #: One line for a person about each thing that could not be read.
    problems: list[str] = []


class _State(msgspec.Struct):
    """How far a journal was folded, as the table `folded` has it."""

    fingerprint: str
    process: int | None
    seq: int
    spans: int
    damaged: int
    ended: int


def fold(
    path: Path,
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
    portion_spans: int | None = None,
    between: Callable[[], None] | None = None,
) -> Folded:
    """Fold the journals beside `path` into it; makes the file if there is something to fold.

    `progress(done, total)` is called with bytes of batches. A transaction ends with the batch
    that brings it to `portion_spans` (24,576); `between` is called after each, in no transaction:
    whoever keeps the file small makes room there. Safe beside writers and other
    folds. Raises sqlite3.Error or OSError where the file itself cannot be used (journals that
    cannot are named in the result), and StoreBusyError.
    """
    folder = journals_of(path)

    def run(path: Path) -> Folded:
        connection = initialise(path)
        try:
            return _Fold(connection, folder, progress, portion_spans or _PORTION, between).run()
        finally:
            connection.close()

    if not folder.is_dir():
        # Without journals nobody runs any more: say so, if the file thinks otherwise.
        return run(path) if path.exists() else Folded()
    with folding(path, clock or SystemClock()):
        result = run(path)
        with suppress(OSError):
            folder.rmdir()  # so that a person has one file; it fails where anything is left
        return result


class _Fold:
    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        progress: Progress | None,
        portion_spans: int,
        between: Callable[[], None] | None,
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._progress = progress
        self._portion_spans = portion_spans
        self._between = between
        self._done = 0
        self._total = 0
        self._result = Folded()

    def run(self) -> Folded:
        journals = journals_in(self._folder)
        try:
            self._note_vanished({journal.name for journal in journals})
            usable = [journal for journal in journals if self._look_at(journal)]
            for journal in usable:
                self._fold_journal(journal)
            self._clear_away(usable)
            self._note_the_dead()
            remove_dead_locks(self._folder)
        finally:
            for journal in journals:
                journal.disconnect()
        return self._result

    # --- one journal ----------------------------------------------------------------------

    def _look_at(self, journal: Journal) -> bool:
        """Whether it can be folded; adds what waits in it to the total."""
        try:
            if problem := journal.problem():
                self._result.problems.append(f"{journal.path} {problem}")
                return False
            self._total += journal.waiting_bytes(self._state(journal).seq)
        except UnreadableJournalError as error:
            self._unreadable(journal, error)
            return False
        return True

    def _unreadable(self, journal: Journal, error: UnreadableJournalError) -> None:
        if not journal.path.exists():
            return  # its writer's bound took it just now
        if not error.damaged:
            self._result.problems.append(f"{journal.path} cannot be read now: {error}")
        elif journal.closed:
            self._set_aside(journal, str(error))
        else:
            self._result.problems.append(f"{journal.path} is damaged, and still in use: {error}")

    def _state(self, journal: Journal) -> _State:
        fingerprint = journal.fingerprint()
        row = self._connection.execute(
            "SELECT fingerprint, process, seq, spans, damaged, ended FROM folded WHERE journal = ?",
            (journal.name,),
        ).fetchone()
        if row is None or row[0] != fingerprint:
            return _State(fingerprint, None, 0, 0, 0, 0)
        return _State(*row)

    def _note_replaced(self, journal: Journal, state: _State) -> None:
        """Another journal of the same name was folded before: the writer's bound took it."""
        row = self._connection.execute(
            "SELECT process, spans, removing FROM folded WHERE journal = ? AND fingerprint <> ?",
            (journal.name, state.fingerprint),
        ).fetchone()
        if row is not None:
            self._rescue(*row)

    def _rescue(self, process: int | None, spans: int, removing: int) -> None:
        """Spans of a journal that went without us are here all the same: they are not lost."""
        if process is not None and spans and not removing:
            self._connection.execute(_ADD_TO_LEDGER, (process, "rescued", "", spans))

    def _fold_journal(self, journal: Journal) -> None:
        try:
            while self._fold_portion(journal):
                pass
        except UnreadableJournalError as error:
            self._unreadable(journal, error)

    def _fold_portion(self, journal: Journal) -> bool:
        """Fold the next portion in one transaction; False when there is nothing more."""
        if not journal.has_more(self._state(journal).seq):
            return False
        with self._transaction():
            # Asked again inside: another process may have folded meanwhile.
            portion = _Portion(self._state(journal), self._portion_spans)
            portion.read(journal)
            if not portion.batches:
                return False
            self._note_replaced(journal, portion.state)
            self._insert(journal, portion)
        self._result.spans += portion.spans
        self._result.batches += portion.batches
        self._done += portion.size
        if self._progress is not None:
            self._progress(min(self._done, self._total), max(self._done, self._total))
        if self._between is not None:
            self._between()
        return True

    def _insert(self, journal: Journal, portion: _Portion) -> None:
        connection, state, head = self._connection, portion.state, portion.head
        process = state.process
        if head is not None:
            process = put_process(
                connection,
                head.process,
                state="finished" if head.last else "running",
                journal=journal.writer,
            )
            insert_portion(connection, process, portion.parts, portion.still_open)
            write_books(connection, process, head.ledger, head.counts)
            refresh_run(connection, head.process.run_id)
        connection.execute(
            "INSERT OR REPLACE INTO folded (journal, fingerprint, process, seq, spans, damaged,"
            " ended) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                journal.name, state.fingerprint, process, portion.seq,
                state.spans + portion.spans, state.damaged + portion.damaged,
                state.ended if head is None else head.last,
            ),
        )  # fmt: skip

    # --- afterwards -----------------------------------------------------------------------

    def _clear_away(self, journals: list[Journal]) -> None:
        """Remove journals of which everything is in the file and to which nothing can come."""
        removable: list[Journal] = []
        for journal in journals:
            try:
                state = self._state(journal)
                if not (journal.closed or state.ended) or journal.has_more(state.seq):
                    continue
            except UnreadableJournalError as error:
                self._unreadable(journal, error)
                continue
            if state.damaged:
                self._set_aside(journal, f"{state.damaged} batches cannot be read")
            else:
                removable.append(journal)
        names = [(journal.name,) for journal in removable]
        # Marked first, so that whoever finds the file gone knows that it was folded whole; and
        # with a sync, which brings all that was committed before to the disk with it.
        self._connection.execute("PRAGMA synchronous=FULL")
        self._write("UPDATE folded SET removing = 1 WHERE journal = ?", names)
        for journal in removable:
            journal.remove()
        self._result.journals_removed += len(removable)
        self._write("DELETE FROM folded WHERE journal = ?", names)

    def _set_aside(self, journal: Journal, why: str) -> None:
        state = self._connection.execute(
            "SELECT process, damaged FROM folded WHERE journal = ?", (journal.name,)
        ).fetchone()
        target = journal.set_aside()
        if state is not None and state[0] is not None:
            self._write(_ADD_TO_LEDGER, [(state[0], "damaged", "batches", max(state[1], 1))])
        self._write("DELETE FROM folded WHERE journal = ?", [(journal.name,)])
        self._result.problems.append(f"{journal.path} is damaged ({why}); it is kept as {target}")

    def _note_vanished(self, present: set[str]) -> None:
        """Journals that were there in an earlier fold, and went without one."""
        rows = self._connection.execute(
            "SELECT journal, process, spans, removing FROM folded"
        ).fetchall()
        gone = [row for row in rows if row[0] not in present]
        if not gone:
            return
        with self._transaction() as connection:
            for name, process, spans, removing in gone:
                deleted = connection.execute("DELETE FROM folded WHERE journal = ?", (name,))
                if deleted.rowcount:
                    self._rescue(process, spans, removing)

    def _note_the_dead(self) -> None:
        """Processes that are gone and never said goodbye were interrupted."""
        rows = self._connection.execute(
            "SELECT id, run_id, journal FROM processes WHERE state = 'running'"
        ).fetchall()
        dead = [(i, run) for i, run, writer in rows if not alive(self._folder, writer)]
        if not dead:
            return
        with self._transaction() as connection:
            for process, _ in dead:
                connection.execute(
                    "UPDATE processes SET state = 'interrupted' WHERE id = ?", (process,)
                )
            for run_id in {run for _, run in dead}:
                refresh_run(connection, run_id)

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            with self._transaction() as connection:
                connection.executemany(statement, rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


class _Portion:
    """The next batches of a journal, decoded."""

    def __init__(self, state: _State, most_spans: int) -> None:
        self.state = state
        self._most_spans = most_spans
        self.seq = state.seq
        self.batches = 0
        self.damaged = 0
        self.spans = 0
        self.size = 0
        self.parts: list[Rows] = []
        #: Of the newest batch that can be read.
        self.head: BatchHead | None = None
        #: Of the newest batch that says what is open; None if none does.
        self.still_open: Rows | None = None

    def read(self, journal: Journal) -> None:
        """Take batches until there are enough spans; all of them of one process."""
        with closing(journal.batches(self.seq)) as batches:
            for seq, body in batches:
                if not self._take(body):
                    return
                self.seq = seq
                self.batches += 1
                if self.spans >= self._most_spans:
                    return

    def _take(self, body: bytes | None) -> bool:
        """Take one batch; False if it is of another process than those before it."""
        try:
            if body is None:
                raise DamagedStoreError("on a damaged page")
            self.size += len(body)
            head, finished, still_open = decode_batch(body)
            rows = rows_of_columns(head, finished)
            open_rows: Rows | None = self.still_open
            if head.open_spans != OPEN_AS_BEFORE:
                open_rows = rows_of_columns(head, still_open, are_open=True)
        except (DamagedStoreError, ValueError, LookupError, TypeError, OverflowError):
            self.damaged += 1
            return True
        if self.head is not None and _identity(head.process) != _identity(self.head.process):
            return False
        self.head, self.still_open = head, open_rows
        self.spans += len(rows)
        if len(rows):
            self.parts.append(rows)
        return True


def _identity(process: Process) -> tuple[str, int, int]:
    return process.run_id, process.pid, process.start_ns
