"""Bringing the schema `afterglow` of a database up to date, however many processes open it.

The schema is the sum of the numbered files in `migrations/`; afterglow.migration says which of
them a database has.
"""

from __future__ import annotations

import re
from importlib import resources

from afterglow.errors import NewerStoreError, NotAStoreError
from afterglow.store.postgres.connections import Connection

__all__ = ["migrate", "migrations"]

#: "AGLW": all that migrate a database take turns by this advisory lock.
_LOCK = 0x41474C57

_TABLE = """
CREATE SCHEMA IF NOT EXISTS afterglow;
CREATE TABLE IF NOT EXISTS afterglow.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and text of each migration, ascending."""
    folder = resources.files("afterglow.keep.postgres").joinpath("migrations")
    return sorted(
        (int(match[1]), match[0], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )


def migrate(connection: Connection, place: str, *, read_only: bool = False) -> None:
    """Apply what is missing, in one transaction; `read_only` raises NotAStoreError if all is.

    Raises NewerStoreError or psycopg.Error.
    """
    known = migrations()
    version = _version(connection, place, known[-1][0])
    if version == known[-1][0]:
        return
    if read_only and not version:
        raise NotAStoreError(f"there is no trace store in PostgreSQL at {place}; store something")
    with connection.transaction():
        # A transaction's lock: it goes with the transaction, also when we are killed.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        for statement in _TABLE.split(";"):
            connection.execute(statement.encode())
        # Asked again inside: another process may just have done it.
        version = _version(connection, place, known[-1][0])
        for number, name, text in known:
            if number > version:
                connection.execute(text.encode())
                connection.execute(
                    "INSERT INTO afterglow.migration (number, name) VALUES (%s, %s)", (number, name)
                )


def _version(connection: Connection, place: str, newest: int) -> int:
    """How many migrations the database has; it may have none of the tables."""
    there = connection.execute("SELECT to_regclass('afterglow.migration') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(number), 0) FROM afterglow.migration").fetchone()
    version = int(row[0]) if row is not None else 0
    if version > newest:
        raise NewerStoreError(
            f"PostgreSQL at {place} was written by a newer Afterglow (format {version}, this one "
            f"knows {newest}); upgrade: pip install -U afterglow"
        )
    return version
