"""The connections of a back end: one that writes, and as many that read as are in use at once.

Readers have connections of their own, so that nobody who reads waits for a flush: in WAL mode
a writer and readers do not meet.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from afterglow.errors import StoreError
from afterglow.keep.sqlite import sql
from afterglow.store.failures import explained, primary_code
from afterglow.store.schema import SCHEMA_VERSION, connect, initialise, verify

__all__ = ["Connections"]

_BUSY_MS: Final = 30_000
#: So many idle readers are kept; each may hold so many KiB of pages.
_IDLE: Final = 4
_READER_KIB: Final = 8_192
#: SQLite's ways to say that a file may be looked at, but not written.
_CANNOT_WRITE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class Connections:
    """Of one file, which is made if need be. Any thread may use them; raises StoreError."""

    def __init__(self, path: Path, *, read_only: bool = False, busy_ms: int = _BUSY_MS) -> None:
        self.path = path
        self._busy_ms = busy_ms
        #: Held by the one who writes; readers never take it.
        self._writing = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._mode = "rw"
        self._writer: sqlite3.Connection | None = None
        with explained(path):
            self._open(read_only)
        #: Whether SQLite was built with pow() and exp().
        self.has_mathematics = _has_mathematics()

    def _open(self, read_only: bool) -> None:
        if self.path.exists():
            version = verify(self.path)
        elif read_only:
            raise StoreError(f"{self.path} is not there; store something in it first")
        else:
            version = 0
        if not read_only:
            try:
                self._writer = initialise(self.path)
            except sqlite3.Error as error:
                if primary_code(error) not in _CANNOT_WRITE or not version:
                    raise
            else:
                self._writer.execute(f"PRAGMA busy_timeout={self._busy_ms}")
                return
        # Nobody may write it, so it is read as it is.
        self._mode = "ro"
        try:
            reader = self._reader()
        except sqlite3.OperationalError:
            if self.path.with_name(self.path.name + "-wal").exists():
                raise
            self._mode = "immutable"
            reader = self._reader()
        (version,) = reader.execute("PRAGMA user_version").fetchone()
        self._idle.append(reader)
        if version < SCHEMA_VERSION:
            reader.close()
            raise StoreError(
                f"{self.path} is of an older format ({version}) and cannot be written; "
                "make it writable once, so that it can be brought up to date"
            )

    def _reader(self) -> sqlite3.Connection:
        connection = connect(self.path, self._mode, busy_ms=self._busy_ms)
        try:
            connection.execute("PRAGMA query_only=1")
            connection.execute(f"PRAGMA cache_size=-{_READER_KIB}")
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection on which everything that is read comes from one snapshot."""
        with explained(self.path):
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._idle_lock:
            self._check()
            if self._idle:
                return self._idle.pop()
        return self._reader()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes: waits for others, and is there whole or not at all."""
        with explained(self.path), self._writing:
            self._check()
            connection = self._writer
            if connection is None:
                raise StoreError(
                    f"{self.path} cannot be written; check its permissions and its folder's"
                )
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back where the disk was full.
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path} is closed here; open a new TraceStore")

    def close(self) -> None:
        """Close all; waits for whoever writes. Readers in use are closed when they are done."""
        with self._writing:
            with self._idle_lock:
                self._closed = True
                idle, self._idle = self._idle, []
            for connection in idle:
                connection.close()
            # The one that may write goes last: SQLite then leaves one file, without helpers.
            if self._writer is not None:
                self._writer.close()
                self._writer = None


def _has_mathematics() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(sql.HAS_MATHEMATICS)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
