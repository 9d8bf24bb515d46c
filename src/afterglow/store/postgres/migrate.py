"""Bringing one schema of a database up to date, however many processes open it.

A schema is the sum of the numbered files in a package's `migrations/`; its table `migration` says
which of them a database has.
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
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


def migrations(package: str) -> list[tuple[int, str, str]]:
    """Number, name and text of each migration of a package, ascending."""
    folder = resources.files(package).joinpath("migrations")
    return sorted(
        (int(match[1]), match[0], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )


def migrate(
    connection: Connection,
    place: str,
    *,
    schema: str,
    package: str,
    missing: str,
    read_only: bool = False,
) -> None:
    """Apply what is missing of a package's migrations, in one transaction.

    `read_only` raises NotAStoreError, with the text `missing`, if all is. Raises NewerStoreError
    or psycopg.Error.
    """
    known = migrations(package)
    version = _version(connection, place, schema, known[-1][0])
    if version == known[-1][0]:
        return
    if read_only and not version:
        raise NotAStoreError(missing)
    with connection.transaction():
        # A transaction's lock: it goes with the transaction, also when we are killed.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        for statement in _TABLE.format(schema=schema).split(";"):
            connection.execute(statement.encode())
        # Asked again inside: another process may just have done it.
        version = _version(connection, place, schema, known[-1][0])
        for number, name, text in known:
            if number > version:
                connection.execute(text.encode())
                connection.execute(
                    f"INSERT INTO {schema}.migration (number, name) VALUES (%s, %s)".encode(),
                    (number, name),
                )


def _version(connection: Connection, place: str, schema: str, newest: int) -> int:
    """How many migrations the database has; it may have none of the tables."""
    there = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.migration",)
    ).fetchone()
    if there is None or not there[0]:
        return 0
    row = connection.execute(
        f"SELECT coalesce(max(number), 0) FROM {schema}.migration".encode()
    ).fetchone()
    version = int(row[0]) if row is not None else 0
    if version > newest:
        raise NewerStoreError(
            f"PostgreSQL at {place} was written by a newer Afterglow (format {version}, this one "
            f"knows {newest}); upgrade: pip install -U afterglow"
        )
    return version
