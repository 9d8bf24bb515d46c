"""A back end on servers: PostgreSQL, and Redis before it where that is wanted."""

from __future__ import annotations

from collections.abc import Callable

from afterglow.clock import Clock
from afterglow.config import ServersConfig
from afterglow.errors import MissingExtraError
from afterglow.keep.backend import Backend, OnRemoved

__all__ = ["open_servers"]


def open_servers(
    url: str,
    partition: str,
    *,
    config: ServersConfig,
    on_removed: OnRemoved | None,
    read_only: bool,
    clock: Clock,
    report: Callable[[str], None],
) -> Backend:
    """The back end of a partition at `url`, behind the hot tier that `config` names, if any.

    Raises SettingError for what is no such URL, StoreError where PostgreSQL cannot be used,
    MissingExtraError without psycopg or redis. That Redis is away is no error: `report` hears it.
    """
    try:
        from afterglow.keep.postgres.backend import PostgresBackend
    except ImportError as error:
        raise _missing(error, "psycopg", "a trace store in PostgreSQL", "postgres") from None
    hot = None if read_only else config.hot
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
        read_only=read_only,
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
            report=report,
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
