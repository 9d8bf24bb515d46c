"""The schema `afterglow_spans` of a database: spans that collectors received."""

from __future__ import annotations

from afterglow.store.postgres import migrate as schemas
from afterglow.store.postgres.connections import Connection

__all__ = ["migrate_spans"]


def migrate_spans(connection: Connection, place: str, *, read_only: bool = False) -> None:
    """Apply what is missing; `read_only` raises NotAStoreError if all is.

    Raises NewerStoreError or psycopg.Error.
    """
    schemas.migrate(
        connection,
        place,
        schema="afterglow_spans",
        package="afterglow.store.postgres",
        missing=f"there are no spans in PostgreSQL at {place}: have a collector write there first "
        "(afterglow serve)",
        read_only=read_only,
    )
