"""Real servers for tests: started when the first test asks, as new for each test.

They never skip: where a server is missing, scripts/debian.py gets it, and says what to do if it
cannot. tests/conftest.py offers the fixtures to all rooms.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.kafka import Kafka, start_kafka
from scripts.postgres import Postgres
from scripts.redis_cluster import RedisCluster, SingleRedis


@pytest.fixture(scope="session")
def session_redis() -> Iterator[SingleRedis]:
    with SingleRedis() as server:
        yield server


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def session_postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def session_kafka() -> Iterator[Kafka]:
    with start_kafka() as kafka:
        yield kafka


@pytest.fixture
def kafka(session_kafka: Kafka) -> Kafka:
    """A Kafka broker, or librdkafka's mock cluster where Java or Maven is missing (`kind` says
    which); make topics of your own in it, the test may do anything to it."""
    session_kafka.reset()
    return session_kafka


@pytest.fixture
def redis_single(session_redis: SingleRedis) -> SingleRedis:
    """One Redis server, running and empty; the test may do anything to it."""
    session_redis.reset()
    return session_redis


@pytest.fixture
def redis_cluster(session_cluster: RedisCluster) -> RedisCluster:
    """Six running nodes, empty, slots in thirds; the test may do anything to them."""
    session_cluster.reset()
    return session_cluster


@pytest.fixture
def postgres_server(session_postgres: Postgres) -> Postgres:
    """A PostgreSQL server with no database of anybody's; the test may do anything to it."""
    session_postgres.reset()
    return session_postgres


@pytest.fixture
def postgres(postgres_server: Postgres) -> str:
    """The URL of a new, empty database."""
    return postgres_server.new_database()
