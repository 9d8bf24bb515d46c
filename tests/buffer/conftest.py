"""Control connections to real servers, a single Redis and a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from afterglow.buffer.connect import Nodes, connect
from scripts.redis_cluster import RedisCluster, SingleRedis


@pytest.fixture(params=["single", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of a real Redis, a single one and a cluster in turn."""
    if request.param == "single":
        single: SingleRedis = request.getfixturevalue("redis_single")
        return single.url
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return cluster.url


@pytest.fixture
def nodes(redis_url: str) -> Iterator[Nodes]:
    connected = connect(redis_url, 5.0)
    yield connected
    connected.close()
