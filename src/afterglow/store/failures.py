"""What SQLite and the file system say, as our own errors that say what to do next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterglow.errors import (
    DamagedStoreError,
    NotAStoreError,
    StoreBusyError,
    StoreError,
)

__all__ = ["explained", "primary_code", "store_error"]


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python's own module raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def store_error(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """The error of ours for one that a look at `path` raised."""
    if isinstance(error, OSError):
        return StoreError(f"{path}: {error.strerror or error}")
    code = primary_code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusyError(f"{path}: another process holds it for too long; try again later")
    if code == sqlite3.SQLITE_NOTADB:
        return NotAStoreError(f"{path} is no Afterglow database; name another file")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT):
        return DamagedStoreError(
            f"{path} is damaged ({error}); rescue what can be read with: sqlite3 FILE .recover"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"{path} cannot be written; check its permissions and its folder's")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"{path} cannot be opened; check that it and its folder may be used")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{path} cannot grow: the disk is full; make room and try again")
    return StoreError(f"{path}: {error}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Whatever SQLite or the file system raises inside comes out as a StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, path) from error
