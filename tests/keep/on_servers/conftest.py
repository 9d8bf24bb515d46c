"""Back ends in PostgreSQL, closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afterglow.keep.entry import Record
from afterglow.keep.postgres.backend import PostgresBackend
from afterglow.keep.redis.hot import HotBackend
from afterglow.keep.redis.tier import HotTier
from afterglow.testing import ManualClock
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.contracts.trace_store.places import url_of


@pytest.fixture
def open_postgres(postgres: str) -> Iterator[Callable[..., PostgresBackend]]:
    """Back ends of the test's database, by partition."""
    opened: list[PostgresBackend] = []

    def open_one(partition: str = "default", **options: Any) -> PostgresBackend:
        backend = PostgresBackend(options.pop("url", postgres), partition, **options)
        opened.append(backend)
        return backend

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(open_postgres: Callable[..., PostgresBackend]) -> PostgresBackend:
    return open_postgres()


@pytest.fixture(params=["single", "cluster"])
def redis_servers(request: pytest.FixtureRequest) -> SingleRedis | RedisCluster:
    """One Redis, and a cluster."""
    servers: SingleRedis | RedisCluster = request.getfixturevalue(f"redis_{request.param}")
    return servers


class Hot:
    """A back end with its tier, a clock by hand, and what it reported."""

    def __init__(self, postgres: PostgresBackend, url: str, **options: Any) -> None:
        self.postgres = postgres
        self.clock = ManualClock()
        self.reports: list[str] = []
        options = {"ttl_s": 86_400.0, "timeout_s": 0.5, **options}
        self.tier = HotTier(
            url, postgres.identity, clock=self.clock, report=self.reports.append, **options
        )
        self.backend = HotBackend(postgres, self.tier, self.clock)

    def read(self, *ids: str) -> dict[str, Record]:
        return self.backend.read(ids, links=True).records

    def counted(self, work: Callable[[], object]) -> dict[str, int]:
        """What `work` added to the counters."""
        before = self.tier.counted.copy()
        work()
        return dict(self.tier.counted - before)


@pytest.fixture
def open_hot(
    open_postgres: Callable[..., PostgresBackend], redis_servers: SingleRedis | RedisCluster
) -> Iterator[Callable[..., Hot]]:
    """Back ends of one database with a tier in one Redis, as processes would have them."""
    opened: list[Hot] = []

    def open_one(partition: str = "default", **options: Any) -> Hot:
        hot = Hot(open_postgres(partition), url_of(redis_servers), **options)
        opened.append(hot)
        return hot

    yield open_one
    for hot in opened:
        hot.backend.close()
