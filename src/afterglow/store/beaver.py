"""The logs of a BeaverDB file in plain SQL: what beaver-db keeps for `db.log(name)`.

Both major versions keep one row an entry, (log_name, timestamp, data), with data as JSON text
and (log_name, timestamp) as the key; only the table's name differs. ferret-io's timestamp is
the span's start: seconds since 1970, in microseconds. (On beaver 2 it comes out as the text of
a local time, for ferret hands over a datetime there; such rows are read like the others.)

Written is one statement a batch, however many rows: beside a busy main thread each row of an
`executemany` waits for the interpreter lock, and a few hundred rows a second is all one gets.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from afterglow.errors import NotAStoreError, StoreError, UnencodableError
from afterglow.store.failures import primary_code, store_error

__all__ = ["LOG_TABLES", "BeaverLog", "beaver_error", "is_beaver_file", "log_tables", "open_beaver"]

#: beaver 1.x, beaver 2.x.
LOG_TABLES: Final = ("beaver_logs", "__beaver_logs__")


# :log is the log's name, :rows a JSON array of [microseconds, entry]. Dividing in SQL gives the
# double that Python's own division gives; parsing a decimal fraction might not.
_TAKEN: Final = """
    SELECT row.key FROM json_each(:rows) AS row CROSS JOIN {table} AS log
    WHERE log.log_name = :log AND log.timestamp = json_extract(row.value, '$[0]') / 1e6
"""
_INSERT: Final = """
    INSERT INTO {table} (log_name, timestamp, data)
    SELECT :log, json_extract(value, '$[0]') / 1e6, json_extract(value, '$[1]')
    FROM json_each(:rows)
"""

_encoder = msgspec.json.Encoder()


def is_beaver_file(path: Path) -> bool:
    """Whether there is a SQLite file at `path` that beaver-db made. Never raises."""
    try:
        # No open() of our own: its close would take the locks of whoever has it open here.
        with contextlib.closing(open_beaver(path)) as connection:
            return bool(log_tables(connection))
    except (OSError, sqlite3.Error, StoreError):
        return False


def open_beaver(path: Path) -> sqlite3.Connection:
    """A read-only connection. Raises StoreError and its children."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        try:
            return _probed(address)
        except sqlite3.OperationalError as error:
            # A WAL database in a directory where nobody may write: without a -wal file all of
            # it is in the file itself, which then cannot be changing either.
            wal = path.with_name(path.name + "-wal")
            if primary_code(error) != sqlite3.SQLITE_CANTOPEN or (
                wal.exists() and wal.stat().st_size
            ):
                raise
            return _probed(address + "&immutable=1")
    except sqlite3.Error as error:
        raise beaver_error(error, path) from error


def _probed(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=5.0, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def log_tables(connection: sqlite3.Connection, schema: str = "main") -> list[str]:
    """The tables of beaver's logs that are there: none in a file that is no BeaverDB."""
    found = connection.execute(
        f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name IN (?, ?)",
        LOG_TABLES,
    )
    return sorted((name for (name,) in found), key=LOG_TABLES.index)


def beaver_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The same in our words, on one line."""
    if primary_code(error) == sqlite3.SQLITE_NOTADB:
        return NotAStoreError(f"{path} is no database that beaver-db made; name another file")
    return store_error(error, path)


class BeaverLog:
    """One named log of a BeaverDB file, for appending. Owned by one thread at a time."""

    def __init__(self, path: Path, name: str, *, busy_timeout_s: float = 1.0) -> None:
        """Open an existing file. Raises NotAStoreError where beaver-db has not made it."""
        self._path = path
        self._name = name
        try:
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=rw",
                uri=True,
                timeout=busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,  # close() may come from another thread
            )
        except sqlite3.Error as error:
            raise beaver_error(error, path) from error
        try:
            self._table = self._find_table()
            self._connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._connection.close()
            raise

    def _find_table(self) -> str:
        try:
            tables = log_tables(self._connection)
        except sqlite3.Error as error:
            raise beaver_error(error, self._path) from error
        if not tables:
            raise NotAStoreError(
                f"{self._path} is no database that beaver-db made; name another file"
            )
        return tables[-1]  # a file with both was opened by beaver 2 last

    def append(self, entries: Iterable[tuple[int, object]]) -> None:
        """Add entries, each with its microseconds since 1970, in one transaction.

        An entry whose microsecond is taken moves to the next free one, for it is the key.
        Raises UnencodableError and StoreError; then none of them is there.
        """
        rows = _apart(entries)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute(
                    _INSERT.format(table=self._table),
                    {"log": self._name, "rows": self._placed(rows)},
                )
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise beaver_error(error, self._path) from error

    def _placed(self, rows: list[list[Any]]) -> str:
        """The rows as JSON, each moved on to a microsecond that is free in the file too."""
        step = 1
        while True:
            text = _json(rows)
            taken = self._connection.execute(
                _TAKEN.format(table=self._table), {"log": self._name, "rows": text}
            ).fetchall()
            if not taken:
                return text
            _move(rows, [row for (row,) in taken], step)
            step *= 2  # so that a long dense stretch is passed in few rounds

    def close(self) -> None:
        """May be called twice."""
        self._connection.close()


def _apart(entries: Iterable[tuple[int, object]]) -> list[list[Any]]:
    """The entries with no microsecond twice, as lists [microseconds, entry]."""
    after: dict[int, int] = {}
    return [[_free(us, after), entry] for us, entry in entries]


def _move(rows: list[list[Any]], taken: list[int], step: int) -> None:
    after = {us: us + 1 for us, _ in rows}
    for row in taken:
        rows[row][0] = _free(rows[row][0] + step, after)


def _free(us: int, after: dict[int, int]) -> int:
    """The first microsecond from `us` that is not in `after`, which leads on from taken ones."""
    place = us
    while place in after:
        place = after[place]
    after[us] = after[place] = place + 1  # the next one in this stretch gets there in one step
    return place


def _json(rows: list[list[Any]]) -> str:
    try:
        return _encoder.encode(rows).decode()
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise UnencodableError(f"a value cannot be encoded: {error}") from error
