"""The journal that this process writes: batches, one INSERT each, in files of its own.

`<database>.d/<run>-<pid>-<n>.journal` is SQLite in WAL mode with one table, `batches(seq, body)`;
bodies are of store/columns.py. Nobody else writes it, so no other process can make us wait, and
readers are never in the way. Nothing is on the disk before the first batch: a process that
records nothing leaves only the goodbye that its writer sends when it closes.

Choices, and why:

synchronous=OFF         A batch must outlive this process, not the machine: what was written is
                        the kernel's, kill -9 or not. A sync would let the program's own files
                        wait, which the file system forces out along with ours.
wal_autocheckpoint      Copies at most 8 MB within the page cache, some milliseconds without the
                        interpreter lock. Below 4,062 frames the WAL's index stays in its first
                        piece and so cannot fail to grow on a full disk after a commit.
a failed INSERT         closes the file for good, and the next attempt begins a new one; so a
                        damaged, locked or deleted file never stands in the way for long.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from afterglow.config import JournalConfig
from afterglow.errors import SinkUnavailableError
from afterglow.ports import SpanBatch
from afterglow.store.failures import primary_code
from afterglow.store.journal_files import JOURNAL_ID, JOURNAL_VERSION
from afterglow.store.limit import make_room
from afterglow.store.pieces import encode_in_pieces
from afterglow.store.schema import journals_of

__all__ = ["JournalSink"]

_BUSY_S: Final = 1.0
_CHECKPOINT_PAGES: Final = 2_000
_INSERT: Final = "INSERT INTO batches(seq, body) VALUES (?, ?)"
_HELPERS: Final = ("-wal", "-shm")
_MOST_TWINS: Final = 100
_LONGEST_NAME: Final = 100

#: After these nothing can have been written. After others (a full disk, an I/O error) SQLite
#: may have put the commit into the WAL before it failed, and a reader would find it.
_SURELY_NOT_WRITTEN: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )
)

#: Connections that forked children inherited. Closing one would meddle with the parent's WAL,
#: and an object that nothing refers to is closed: so they are referred to, for ever.
_INHERITED: Final[list[sqlite3.Connection]] = []


class JournalSink:
    """A ports.SpanSink on files beside `database`, which itself is never opened.

    Used by one thread at a time, which need not always be the same one. Directory and files
    are made when the first batch comes, and again when somebody has deleted them.
    """

    def __init__(self, database: Path, config: JournalConfig, *, run_id: str, pid: int) -> None:
        self._folder = journals_of(Path(database).absolute())
        self._run = _as_file_name(run_id)
        self._most_bytes = config.max_journal_bytes
        # At least four journals, so that the bound takes the oldest quarter, not everything.
        self._file_bytes = min(config.journal_file_bytes, config.max_journal_bytes // 4)
        _empty_journal()  # here, not in the writer's thread, which waits for every statement
        self._begin(pid)

    def _begin(self, pid: int) -> None:
        self._pid = pid
        self._connection: sqlite3.Connection | None = None
        self._path = self._folder  # of the journal that is open, or was last
        self._inode = (0, 0)
        self._lock: int | None = None
        self._lock_path = self._folder
        self._number = 0  # of this journal; none is used twice
        self._seq = 0  # goes on from file to file
        self._rows = 0  # batches in this file
        self._size = 0  # bytes of them
        #: A failed INSERT that may be there after all.
        self._doubt: tuple[Path, int] | None = None
        #: Spans in each journal of ours, in case it goes to keep the bound.
        self._spans: dict[Path, int] = {}
        self._counters = {"bytes": 0, "journals": 0, "journal_limit": 0}

    # --- SpanSink -------------------------------------------------------------------------

    def write(self, batch: SpanBatch) -> None:
        bodies = encode_in_pieces(batch)
        connection = self._ready()
        values = [value for row in enumerate(bodies, self._seq + 1) for value in row]
        try:
            connection.execute(_INSERT + ", (?, ?)" * (len(bodies) - 1), values)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            raise self._unavailable(error) from error
        size = sum(map(len, bodies))
        self._seq += len(bodies)
        self._rows += len(bodies)
        self._size += size
        self._spans[self._path] = self._spans.get(self._path, 0) + len(batch)
        self._counters["bytes"] += size

    def after_fork(self) -> None:
        if self._connection is not None:
            _INHERITED.append(self._connection)
        if self._lock is not None:
            # The lock is the parent's as long as any process has this descriptor: leave it.
            with suppress(OSError):
                os.close(self._lock)
        self._begin(os.getpid())

    def close(self) -> None:
        self._leave()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def counters(self) -> Mapping[str, Any]:
        """bytes appended, journals begun, and the written spans that max_journal_bytes took."""
        return dict(self._counters)

    # --- files ----------------------------------------------------------------------------

    def _ready(self) -> sqlite3.Connection:
        """The connection to write with. Raises SinkUnavailableError."""
        try:
            if self._connection is not None and (
                self._size >= self._file_bytes or not self._still_there()
            ):
                self._leave()
            if self._connection is None:
                self._settle_doubt()
                self._connection = self._new_journal()
            return self._connection
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def _still_there(self) -> bool:
        """Whether what we write can be found by its name: it may have been deleted."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def _new_journal(self) -> sqlite3.Connection:
        # Not its parents: where those are gone, the place that a person named is.
        self._folder.mkdir(exist_ok=True)
        writer = self._locked_name()
        self._keep_bound(writer)
        self._number = max(self._number, self._newest_number(writer)) + 1
        path = self._folder / f"{writer}-{self._number}.journal"
        # Made aside and renamed, so that nobody ever sees a journal without its table.
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.write_bytes(_empty_journal())
            # Else SQLite would take the log of a deleted namesake for this one's.
            _remove(path, *_HELPERS)
            fresh.rename(path)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self._path, self._rows, self._size = path, 0, 0
        status = path.stat()
        self._inode = (status.st_dev, status.st_ino)
        connection = _connected(path)
        self._counters["journals"] += 1
        return connection

    def _locked_name(self) -> str:
        """`<run>-<pid>`, with its lock held for as long as we live.

        Where another writer holds that (a second tracer in this process, or a process of the
        same number in another container), we are `<run>.2-<pid>`, and so on.
        """
        if self._lock is not None and _is_open_at(self._lock, self._lock_path):
            return self._lock_path.name.removesuffix(".lock")
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for twin in range(1, _MOST_TWINS):
            run = self._run if twin == 1 else f"{self._run}.{twin}"
            path = self._folder / f"{run}-{self._pid}.lock"
            descriptor = _locked(path)
            if descriptor is not None:
                self._lock, self._lock_path = descriptor, path
                return f"{run}-{self._pid}"
        raise SinkUnavailableError(
            f"{_MOST_TWINS} others write journals of the same run and process into "
            f"{self._folder}: give this one another run_id"
        )

    def _newest_number(self, writer: str) -> int:
        numbers = [0]
        for path in self._folder.iterdir():
            stem, dash, number = path.stem.rpartition("-")
            if path.suffix == ".journal" and (stem, dash) == (writer, "-") and number.isdecimal():
                numbers.append(int(number))
        return max(numbers)

    def _keep_bound(self, writer: str) -> None:
        with suppress(OSError, sqlite3.Error):  # the bound must not keep us from writing
            for path in make_room(self._folder, writer, self._most_bytes - self._file_bytes):
                self._counters["journal_limit"] += self._spans.pop(path, 0)

    def _leave(self) -> None:
        """Close the journal; its last pages come from the WAL into the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    # --- failures -------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        """An INSERT has failed: never write to this file again."""
        self._leave()
        if self._rows == 0:
            # Else a full disk would fill up with empty journals, one for each attempt.
            with suppress(OSError):
                _remove(self._path, "", *_HELPERS)
        elif not (isinstance(error, sqlite3.Error) and primary_code(error) in _SURELY_NOT_WRITTEN):
            self._doubt = (self._path, self._seq + 1)

    def _settle_doubt(self) -> None:
        """Make sure that the batch which is about to be written again is not there already."""
        if self._doubt is None:
            return
        path, seq = self._doubt
        if path.exists():
            try:
                with closing(_connected(path)) as connection:
                    connection.execute("DELETE FROM batches WHERE seq >= ?", (seq,))
            except sqlite3.Error as error:
                # While the disk is full nobody can look. But what we cannot read for another
                # reason, no reader can.
                if _is_full(error):
                    raise
        self._doubt = None

    def _unavailable(self, error: Exception) -> SinkUnavailableError:
        if isinstance(error, SinkUnavailableError):
            return error
        advice = _advice(error, self._folder, self._path)
        return SinkUnavailableError(f"cannot write spans: {advice}")


def _advice(error: Exception, folder: Path, path: Path) -> str:
    """What is wrong and what to do, on one line."""
    if isinstance(error, sqlite3.Error):
        code = primary_code(error)
        if _is_full(error):
            return f"the disk of {folder} is full: make room"
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return f"{path} cannot be written ({error}): check the permissions of {folder}"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"another process holds {path}: end it; a new journal will be begun"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return f"{path} is damaged ({error}): a new journal will be begun"
        return f"{path}: {error}"
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the disk of {folder} is full ({error.strerror}): make room"
        if isinstance(error, FileExistsError | NotADirectoryError):
            return f"{folder} is not a directory: move it away or name another database"
        if isinstance(error, FileNotFoundError):
            return f"the directory {folder.parent} is not there: make it or name another database"
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return f"{folder} cannot be written ({error.strerror}): make it writable"
        return f"{error.filename or folder}: {error.strerror or error}"
    return str(error)


def _is_full(error: sqlite3.Error) -> bool:
    # On some file systems the WAL's index is what cannot grow.
    name = getattr(error, "sqlite_errorname", "")
    return primary_code(error) == sqlite3.SQLITE_FULL or name.startswith("SQLITE_IOERR_SHM")


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.Connection(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,  # autocommit: each INSERT is a transaction
        check_same_thread=False,
        timeout=_BUSY_S,
    )
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@functools.lru_cache(maxsize=1)
def _empty_journal() -> bytes:
    """The bytes of a journal without batches."""
    with closing(sqlite3.Connection(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id={JOURNAL_ID}")
        connection.execute(f"PRAGMA user_version={JOURNAL_VERSION}")
        connection.execute("CREATE TABLE batches(seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        image = bytearray(connection.serialize())
    # The header's file format versions: 2 says WAL (sqlite.org/fileformat2.html, 1.3.3).
    image[18:20] = b"\x02\x02"
    return bytes(image)


def _remove(path: Path, *endings: str) -> None:
    for ending in endings:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on a file, or None if another has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            pass  # a file system without locks: readers then go by the process number
        # A reader that found it unlocked may have removed it in between.
        if _is_open_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _as_file_name(run_id: str) -> str:
    name = quote(run_id, safe=" +,=@").replace("%", "_")
    if name == run_id and len(name) <= _LONGEST_NAME:
        return name
    return hashlib.blake2b(run_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
