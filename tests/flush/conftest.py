"""Servers for flushers: a single Redis and a cluster."""

from __future__ import annotations

import pytest

from scripts.redis_cluster import RedisCluster, SingleRedis


@pytest.fixture(params=["single", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of a real Redis, a single one and a cluster in turn."""
    if request.param == "single":
        single: SingleRedis = request.getfixturevalue("redis_single")
        return single.url
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return cluster.url
