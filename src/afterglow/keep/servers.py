"""A back end on servers, by URL: PostgreSQL, and Redis before it where that is wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable

from afterglow.clock import Clock, SystemClock
from afterglow.config import ServersConfig
from afterglow.errors import MissingExtraError, SettingError
from afterglow.keep.backend import Backend, OnRemoved

__all__ = ["is_server_url", "open_servers"]

_SCHEMES = ("postgresql://", "postgres://")


def is_server_url(place: str) -> bool:
    """Whether a place to keep is a server rather than a file.

    Raises SettingError for a URL of another kind of server.
    """
    if place.startswith(_SCHEMES):
        return True
    scheme, separator, _ = place.partition("://")
    if separator and scheme.isalnum():
        raise SettingError(
            f"a trace store is a file, or postgresql://user@host/database: {scheme}:// is neither"
        )
    return False


def open_servers(
    url: str,
    partition: str,
    *,
    hot: str | None = None,
    config: ServersConfig | None = None,
    on_removed: OnRemoved | None = None,
    clock: Clock | None = None,
    report: Callable[[str], None] | None = None,
) -> Backend:
    """The back end of a partition at `url`, behind the hot tier at `hot` if given.

    Raises SettingError for what is no such URL, StoreError where PostgreSQL cannot be used,
    MissingExtraError without psycopg or redis. That Redis is away is no error: `report` hears it.
    """
    config = config or ServersConfig()
    clock = clock or SystemClock()
    try:
        from afterglow.keep.postgres.backend import PostgresBackend
    except ImportError as error:
        raise _missing(error, "psycopg", "a trace store in PostgreSQL", "postgres") from None
    if hot is not None:
        try:
            from afterglow.keep.redis.hot import HotBackend
            from afterglow.keep.redis.tier import HotTier
        except ImportError as error:
            raise _missing(error, "redis", "a hot tier in Redis", "redis") from None
    postgres = PostgresBackend(
        url,
        partition,
        connections=config.postgres_connections,
        connect_timeout_s=config.postgres_connect_timeout_s,
        patience_s=config.postgres_patience_s,
        on_removed=on_removed,
        clock=clock,
    )
    if hot is None:
        return postgres
    try:
        tier = HotTier(
            hot,
            postgres.identity,
            ttl_s=config.hot_ttl_s,
            timeout_s=config.hot_timeout_s,
            clock=clock,
            report=report or _to_stderr,
        )
    except BaseException:
        postgres.close()
        raise
    return HotBackend(postgres, tier, clock)


def _missing(error: ImportError, module: str, feature: str, extra: str) -> ImportError:
    """Which extra is missing; another import error as it is."""
    # psycopg without its C part raises an ImportError without a name.
    if error.name is None or error.name.partition(".")[0] == module:
        return MissingExtraError(feature, extra)
    return error


def _to_stderr(message: str) -> None:
    print(f"afterglow: {message}", file=sys.stderr, flush=True)
