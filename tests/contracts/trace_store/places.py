"""Where a trace store may live: each back end that keeps the contract, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from afterglow.clock import SystemClock
from afterglow.config import ServersConfig
from afterglow.keep.backend import Backend
from afterglow.keep.servers import open_servers
from afterglow.keep.sqlite.backend import SqliteBackend
from scripts.redis_cluster import RedisCluster, SingleRedis

__all__ = ["PLACES", "Place", "url_of"]


class Place(Protocol):
    """One database, empty when a test begins."""

    def backend(self, partition: str = "default", **options: Any) -> Backend:
        """A new back end, as another process would open it; the caller closes it."""
        ...


class SqlitePlace:
    """A file of the test's own."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        folder: Path = request.getfixturevalue("tmp_path")
        self.path = folder / "memory.db"

    def backend(self, partition: str = "default", **options: Any) -> Backend:
        return SqliteBackend(self.path, partition, **options)


class PostgresPlace:
    """A new database; with `redis`, the fixture of that name is a hot tier before it."""

    def __init__(self, request: pytest.FixtureRequest, redis: str | None = None) -> None:
        self.url: str = request.getfixturevalue("postgres")
        self.hot: str | None = None
        if redis is not None:
            self.hot = url_of(request.getfixturevalue(redis))

    def backend(self, partition: str = "default", **options: Any) -> Backend:
        return open_servers(
            self.url,
            partition,
            config=ServersConfig(hot=self.hot),
            on_removed=options.pop("on_removed", None),
            read_only=options.pop("read_only", False),
            clock=SystemClock(),
            report=_no_report,
        )


def _no_report(message: str) -> None:
    raise AssertionError(f"the hot tier was away: {message}")


def url_of(servers: SingleRedis | RedisCluster) -> str:
    """As a user names it."""
    if isinstance(servers, SingleRedis):
        return servers.url
    return "redis+cluster://" + ",".join(servers.addresses)


#: A back end joins the contract with a line here.
PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "sqlite": SqlitePlace,
    "postgresql": PostgresPlace,
    "redis before postgresql": partial(PostgresPlace, redis="redis_single"),
    "cluster before postgresql": partial(PostgresPlace, redis="redis_cluster"),
}
