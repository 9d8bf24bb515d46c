"""The journals beside a named file, as whoever folds sees them: read, never written.

A journal is `<run_id>-<pid>-<n>.journal`, SQLite in WAL mode, one table `batches(seq, body)`.
Its writer may be at work in it: we read in short transactions, take no lock that it could
meet, and never checkpoint. While a process lives its writer holds an flock on
`<run_id>-<pid>.lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from afterglow.clock import Clock
from afterglow.errors import StoreBusyError
from afterglow.store.failures import primary_code
from afterglow.store.schema import connect, journals_of

__all__ = [
    "Journal",
    "UnreadableJournalError",
    "alive",
    "folding",
    "journals_in",
    "remove_dead_locks",
]

JOURNAL_ID = 0x41474A4C  # "AGJL"
JOURNAL_VERSION = 1
_BUSY_MS = 5_000
_NAME = re.compile(r"(.+)-(\d+)\.journal", re.DOTALL)
_HELPERS = ("-wal", "-shm")


class UnreadableJournalError(Exception):
    """A journal cannot be read: for ever (`damaged`), or for now."""

    def __init__(self, reason: str, *, damaged: bool) -> None:
        super().__init__(reason)
        self.damaged = damaged


def _must_be_damage(error: sqlite3.DatabaseError) -> None:
    """Raise what is no damage again (a lock, a disk that cannot be read)."""
    if primary_code(error) != sqlite3.SQLITE_CORRUPT:
        raise error


@contextmanager
def _reading() -> Iterator[None]:
    # An error of its own, so that the fold never takes the named file's troubles for a journal's.
    try:
        yield
    except sqlite3.Error as error:
        damaged = primary_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
        raise UnreadableJournalError(str(error), damaged=damaged) from error


class Journal:
    """One journal file. Everything that reads may raise UnreadableJournalError."""

    def __init__(self, path: Path, writer: str, number: int) -> None:
        self.path = path
        #: `<run_id>-<pid>`: what all journals of its writer begin with.
        self.writer = writer
        self.number = number
        #: Whether nothing more can come; decided before it is read.
        self.closed = False
        #: Its last page is damaged: what can be read has been.
        self._lost_its_end = False
        self._connection: sqlite3.Connection | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def _connect(self) -> sqlite3.Connection:
        """The connection, which is opened when first needed."""
        if self._connection is None:
            # Not immutable: then SQLite would overlook the -wal of a live writer.
            self._connection = connect(self.path, "ro", busy_ms=_BUSY_MS)
        return self._connection

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def problem(self) -> str:
        """Why it cannot be a journal of ours; "" if it can. One without tables is just new."""
        with _reading():
            connection = self._connect()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > JOURNAL_VERSION:
            return "was written by a newer Afterglow; upgrade: pip install -U afterglow"
        if application not in (0, JOURNAL_ID) or (not application and not self.is_new()):
            return "is no journal of Afterglow"
        return ""

    def is_new(self) -> bool:
        """Whether its writer has not yet made the table."""
        query = "SELECT count(*) FROM sqlite_master WHERE name = 'batches'"
        with _reading():
            return not self._connect().execute(query).fetchone()[0]

    def fingerprint(self) -> str:
        """Tells this journal from an earlier one of the same name; "" while it is empty."""
        if self.is_new():
            return ""
        query = "SELECT seq, body FROM batches ORDER BY seq LIMIT 1"
        with _reading():
            try:
                row = self._connect().execute(query).fetchone()
            except sqlite3.DatabaseError as error:
                _must_be_damage(error)
                return "damaged"
        return f"{row[0]}-{hashlib.blake2b(row[1], digest_size=8).hexdigest()}" if row else ""

    def waiting_bytes(self, after: int) -> int:
        """The size of all batches after number `after`; of the file if that cannot be read."""
        if self.is_new():
            return 0
        query = "SELECT coalesce(sum(length(body)), 0) FROM batches WHERE seq > ?"
        with _reading():
            try:
                size: int = self._connect().execute(query, (after,)).fetchone()[0]
            except sqlite3.DatabaseError as error:
                _must_be_damage(error)
                size = self.path.stat().st_size
        return size

    def has_more(self, after: int) -> bool:
        """Whether there is any batch after number `after`, readable or not."""
        if self._lost_its_end or self.is_new():
            return False
        with _reading():
            try:
                (highest,) = self._connect().execute("SELECT max(seq) FROM batches").fetchone()
            except sqlite3.DatabaseError as error:
                _must_be_damage(error)
                return True
        return highest is not None and highest > after

    def batches(self, after: int) -> Generator[tuple[int, bytes | None]]:
        """Number and body of the batches after `after`; None for one on a damaged page.

        It holds a read transaction while it runs, so that no writer can begin its log anew:
        do not rest in it.
        """
        if self.is_new():
            return
        with _reading():
            last = after
            try:
                query = "SELECT seq, body FROM batches WHERE seq > ? ORDER BY seq"
                for seq, body in self._connect().execute(query, (after,)):
                    yield seq, body
                    last = seq
                return
            except sqlite3.DatabaseError as error:
                _must_be_damage(error)
            yield from self._one_by_one(last)

    def _one_by_one(self, last: int) -> Iterator[tuple[int, bytes | None]]:
        """A page is damaged: what lies behind it is asked for batch by batch."""
        connection = self._connect()
        try:
            (highest,) = connection.execute("SELECT max(seq) FROM batches").fetchone()
        except sqlite3.DatabaseError as error:
            # How many there are on the last page, nobody can say: they count as one.
            _must_be_damage(error)
            self._lost_its_end = True
            if self.closed:
                yield last + 1, None
            return
        for seq in range(last + 1, highest + 1):
            try:
                query = "SELECT body FROM batches WHERE seq = ?"
                row = connection.execute(query, (seq,)).fetchone()
            except sqlite3.DatabaseError as error:
                _must_be_damage(error)
                yield seq, None
            else:
                if row is not None:
                    yield seq, row[0]

    def remove(self) -> None:
        """Delete it. The helpers go last: without the journal they mean nothing."""
        self.disconnect()
        self.path.unlink(missing_ok=True)
        for helper in _HELPERS:
            self.path.with_name(self.name + helper).unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Rename it to `<name>.damaged`, for somebody to look at; where it is now."""
        self.disconnect()
        target = self.path.with_name(self.name + ".damaged")
        number = 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.name}.{number}.damaged")
        for helper in _HELPERS:
            with suppress(FileNotFoundError):
                self.path.with_name(self.name + helper).rename(
                    target.with_name(target.name + helper)
                )
        self.path.rename(target)
        return target


def journals_in(folder: Path) -> list[Journal]:
    """All journals, by writer and number, each with the answer to whether it is closed.

    Whether a writer lives is asked before its journals are listed: if it is dead by then,
    they are whole.
    """
    found = _listed(folder)
    dead = {journal.writer for journal in found if not alive(folder, journal.writer)}
    found = _listed(folder)
    newest = {journal.writer: journal.number for journal in found}
    for journal in found:
        journal.closed = journal.writer in dead or journal.number < newest[journal.writer]
    return found


def _listed(folder: Path) -> list[Journal]:
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    journals = [Journal(folder / m[0], m[1], int(m[2])) for m in matches]
    return sorted(journals, key=lambda journal: (journal.writer, journal.number))


def alive(folder: Path, writer: str) -> bool:
    """Whether the process `<run_id>-<pid>` is alive and writes here."""
    try:
        descriptor = os.open(folder / f"{writer}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Somebody may have tidied: do not take journals from under a process that is there.
        return _pid_exists(writer)
    except PermissionError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _pid_exists(writer: str) -> bool:
    pid = writer.rpartition("-")[2]
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return int(pid) > 0


def remove_dead_locks(folder: Path) -> None:
    """Remove the locks of writers that are gone and have left no journal."""
    writers = {journal.writer for journal in _listed(folder)}
    for lock in folder.glob("*.lock"):
        if lock.name.removesuffix(".lock") not in writers:
            with suppress(OSError):
                _remove_free(lock)


def _remove_free(lock: Path) -> None:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Held while the file goes: a writer that takes it afterwards sees that it is not there
        # any more, and makes another.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def folding(database: Path, clock: Clock, *, timeout_s: float = 30.0) -> Iterator[None]:
    """Be the only one that folds into this file; waits for another as long as it gets on.

    The lock is on the folder of the journals, and goes with the process however that ends.
    Raises StoreBusyError where the other has not come any further for `timeout_s`.
    """
    folder = journals_of(database)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor, database, clock, timeout_s)
        yield
    finally:
        # Said aloud: a child forked meanwhile has the descriptor too and would keep the lock.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, database: Path, clock: Clock, timeout_s: float) -> None:
    never = threading.Event()
    seen = _signs_of_life(database)
    deadline = clock.monotonic_ns() + int(timeout_s * 1e9)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            return  # a file system without locks: the database's own transactions must do
        else:
            return
        clock.wait(never, 0.02)
        if (now := _signs_of_life(database)) != seen:
            seen = now
            deadline = clock.monotonic_ns() + int(timeout_s * 1e9)
        if clock.monotonic_ns() > deadline:
            raise StoreBusyError(
                f"{database}: another process has been folding journals into it for long without "
                "getting on; end that one, or try again later"
            )


def _signs_of_life(database: Path) -> list[tuple[int, int]]:
    """What changes when somebody commits to the file."""
    signs = []
    for path in (database, database.with_name(database.name + "-wal")):
        with suppress(OSError):
            status = path.stat()
            signs.append((status.st_size, status.st_mtime_ns))
    return signs
