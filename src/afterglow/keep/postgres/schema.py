"""The schema `afterglow` of a database: trace stores."""

from __future__ import annotations

from afterglow.store.postgres import migrate as _schemas
from afterglow.store.postgres.connections import Connection

__all__ = ["migrate", "migrations"]

_PACKAGE = "afterglow.keep.postgres"


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and text of each migration, ascending."""
    return _schemas.migrations(_PACKAGE)


def migrate(connection: Connection, place: str, *, read_only: bool = False) -> None:
    """Apply what is missing, in one transaction; `read_only` raises NotAStoreError if all is.

    Raises NewerStoreError or psycopg.Error.
    """
    _schemas.migrate(
        connection,
        place,
        schema="afterglow",
        package=_PACKAGE,
        missing=f"there is no trace store in PostgreSQL at {place}; store something",
        read_only=read_only,
    )
