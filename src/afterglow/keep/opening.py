"""A keeper of a file, or of a project on a server that a URL names."""

from __future__ import annotations

from pathlib import Path

from afterglow.clock import Clock
from afterglow.config import RetentionConfig, ServersConfig, load
from afterglow.errors import MissingExtraError, SettingError
from afterglow.keep.keeper import Keeper

__all__ = ["open_keeper"]


def open_keeper(
    place: Path | str,
    project: str,
    config: RetentionConfig,
    *,
    clock: Clock | None = None,
    wait: bool = True,
) -> Keeper:
    """`place` is the file of a project, or a URL (postgresql://...), of which it is a part.

    Without `wait`, somebody else's work is not waited for. Raises SettingError, StoreError,
    NotFoundError, and MissingExtraError without psycopg.
    """
    if isinstance(place, Path):
        from afterglow.keep.retention import Retention

        return Retention(place, config, clock=clock, busy_ms=30_000 if wait else 250)
    if not place.startswith(("postgresql://", "postgres://")):
        raise SettingError("spans are in a file or at postgresql://HOST/DATABASE: name one")
    try:
        from afterglow.keep.postgres.retention import PostgresRetention
    except ImportError:
        raise MissingExtraError("spans in PostgreSQL", "postgres") from None
    servers = load(ServersConfig, {} if wait else {"postgres_patience_s": 0.0})
    return PostgresRetention(place, project, config, servers=servers, clock=clock, make=wait)
