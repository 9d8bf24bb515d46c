"""Opening the named file: is it ours, is it of this version, and bringing it up to date.

The schema is the sum of the numbered files in `migrations/`; `PRAGMA user_version` says how
many of them a file has, `PRAGMA application_id` that it is ours.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from afterglow.clock import SystemClock
from afterglow.errors import NewerStoreError, NotAStoreError, StoreError
from afterglow.store.failures import explained, primary_code

__all__ = [
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "connect",
    "initialise",
    "journals_of",
    "newer",
    "one_snapshot",
    "transaction",
    "verify",
]

APPLICATION_ID = 0x41474C57  # "AGLW"
_BUSY_MS = 30_000
_RETRY_MS = 10
_LARGEST_PAGE = 1 << 16


def _migrations() -> list[tuple[int, str]]:
    """Number and text of each migration, ascending."""
    folder = resources.files("afterglow.store").joinpath("migrations")
    return sorted(
        (int(match[1]), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )


SCHEMA_VERSION = 5


def journals_of(path: Path) -> Path:
    """The folder beside the named file in which processes write their journals."""
    return path.with_name(path.name + ".d")


def connect(path: Path, mode: str, *, busy_ms: int = _BUSY_MS) -> sqlite3.Connection:
    """A connection in autocommit; `mode` is SQLite's ro, rw or rwc, or `immutable`.

    immutable reads a file in a folder where SQLite cannot put its helpers; it is right only
    where nobody writes. Raises sqlite3.Error, and StoreError for what SQLite would cut off.
    """
    if "\0" in str(path):
        raise StoreError(f"{str(path)!r} is no path: it holds a NUL character; name another file")
    options = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    # The class, not sqlite3.connect: instrumentations replace that, and would trace our own work.
    connection = sqlite3.Connection(
        f"file:{quote(str(path.absolute()))}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_ms / 1000,
    )
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


@contextmanager
def one_snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read inside is of one moment: others may forget between two queries."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction that writes: it waits for other writers, and is there whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def verify(path: Path) -> int:
    """The schema version of an existing file; 0 for an empty one, which may become ours.

    Reads the header alone, so that a foreign database is never opened, let alone changed.
    Raises NotAStoreError, NewerStoreError, or StoreError if it cannot be read.
    """
    if path.is_dir():
        raise NotAStoreError(f"{path} is a folder; name a database file in it")
    with explained(path):
        if not path.stat().st_size:
            return 0
        application, version = _identity(path)
    if application != APPLICATION_ID and not _fresh(path, application):
        raise NotAStoreError(
            f"{path} is another program's database; if ferret-io wrote it: afterglow import FILE"
        )
    if version > SCHEMA_VERSION:
        raise newer(path, version)
    return version


def _identity(path: Path) -> tuple[int, int]:
    """Application id and schema version as the file itself has them, whatever its log says.

    SQLite reads them, never an open() of ours: to close a file takes away every lock that this
    process has on it, and SQLite's are such locks. Whoever closed the database next would take
    itself for the last one, and remove the log that our connections go on writing
    (sqlite.org/howtocorrupt.html, 2.2).
    """
    connection = connect(path, "immutable")
    try:
        # While a checkpoint makes the file longer, its header is ahead of it: no damage.
        connection.execute("PRAGMA writable_schema=ON")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        if primary_code(error) != sqlite3.SQLITE_NOTADB:
            raise
        raise NotAStoreError(f"{path} is no database; name a file that Afterglow wrote") from error
    finally:
        connection.close()
    return application & 0xFFFFFFFF, version & 0xFFFFFFFF


def newer(path: Path, version: int) -> NewerStoreError:
    """The error for a file of a schema that this version does not know."""
    return NewerStoreError(
        f"{path} was written by a newer Afterglow (format {version}, this one knows "
        f"{SCHEMA_VERSION}); upgrade: pip install -U afterglow"
    )


def _fresh(path: Path, application: int) -> bool:
    """Whether the header is older than the identity: a first fold that was cut off, or goes on.

    The rest is in the write-ahead log beside the file then, or was never written. A database
    of more than a page without such a log has tables: it is somebody else's, leave it alone.
    """
    if application:
        return False
    with explained(path):
        logged = path.with_name(path.name + "-wal").exists()
        if not logged and path.stat().st_size > _LARGEST_PAGE:
            return False
        connection = connect(path, "ro")
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    return bool(application == APPLICATION_ID or not tables)


def initialise(path: Path) -> sqlite3.Connection:
    """A connection that writes, to a file of the newest schema; makes the file if need be.

    Call `verify` first for a file that is there. Raises sqlite3.Error.
    """
    connection = connect(path, "rwc")
    try:
        # Half as many pages to find room in, and rows with long attributes stay in one; says
        # nothing to a file that is there.
        connection.execute("PRAGMA page_size=8192")
        # WAL: people read while somebody folds. NORMAL: commits cost no sync; the fold asks for
        # one (FULL) before it removes a journal.
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("PRAGMA wal_autocheckpoint=4096")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < SCHEMA_VERSION:
            _migrate(connection)
        elif version > SCHEMA_VERSION:
            raise newer(path, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite's own waiting does not cover this change: two that make the file meet here.
    clock, never = SystemClock(), threading.Event()
    for _ in range(_BUSY_MS // _RETRY_MS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
        clock.wait(never, _RETRY_MS / 1000)
    connection.execute("PRAGMA journal_mode=WAL")


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again inside: another process may just have done it.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for number, text in _migrations():
            if number > version:
                for statement in _statements(text):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(text: str) -> Iterator[str]:
    # Not executescript: it commits what is open before it begins.
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise StoreError("a migration does not end with a whole statement")
