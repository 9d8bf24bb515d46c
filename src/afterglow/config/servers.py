"""The servers behind a trace store: PostgreSQL, and Redis as a hot tier before it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["ServersConfig"]

_DAY_S = 86_400.0


class ServersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A trace store in PostgreSQL, and its hot tier in Redis."""

    postgres_connections: Annotated[
        int,
        Setting(
            "connections",
            "The most that one store of a process has open; they are made when needed.",
            ("AFTERGLOW_POSTGRES_CONNECTIONS",),
            2,
            1_000,
        ),
    ] = 8
    postgres_connect_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A server that does not answer is given up on, unless the URL says another time.",
            ("AFTERGLOW_POSTGRES_CONNECT_TIMEOUT_S",),
            1.0,
            600.0,
        ),
    ] = 5.0
    postgres_patience_s: Annotated[
        float,
        Setting(
            "s",
            "A server that was there and went away is waited for; 0 raises at once.",
            ("AFTERGLOW_POSTGRES_PATIENCE_S",),
            0.0,
            3_600.0,
        ),
    ] = 30.0
    hot: Annotated[
        str | None,
        Setting(
            "URL",
            "Entries that are read often come from here: redis://HOST:PORT, or a cluster as "
            "redis+cluster://HOST:PORT,HOST:PORT. None: from PostgreSQL alone.",
            ("AFTERGLOW_HOT",),
            secret=True,
        ),
    ] = None
    hot_ttl_s: Annotated[
        float,
        Setting(
            "s",
            "So long an entry stays in Redis after it was read from PostgreSQL.",
            ("AFTERGLOW_HOT_TTL_S",),
            1.0,
            365 * _DAY_S,
        ),
    ] = _DAY_S
    hot_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "Redis answers within this, or PostgreSQL is asked and Redis rests.",
            ("AFTERGLOW_HOT_TIMEOUT_S",),
            0.001,
            60.0,
        ),
    ] = 0.25
