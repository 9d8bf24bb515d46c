"""The servers that other tests rely on do what they say, and leave nothing."""

from __future__ import annotations

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.postgres import Postgres
from scripts.redis_cluster import RedisCluster, SingleRedis

NO_RETRY = Retry(NoBackoff(), 0)


def test_killed_master_is_replaced_and_keeps_its_keys(redis_cluster: RedisCluster) -> None:
    with redis_cluster.client() as client:
        for number in range(100):
            client.set(f"key {number}", number)
        assert client.wait(1, 5_000, target_nodes=client.PRIMARIES)
    dead = redis_cluster.kill(redis_cluster.masters()[1])
    assert not dead.alive()
    new = redis_cluster.wait_promoted(dead)
    assert new in redis_cluster.masters()
    assert len(redis_cluster.keys()) == 100
    redis_cluster.restart(dead)
    redis_cluster.wait_until_ok()
    assert redis_cluster.replicas(new) == [dead]


def test_slots_move_with_their_keys(redis_cluster: RedisCluster) -> None:
    source, target, _ = redis_cluster.masters()
    with redis_cluster.client() as client:
        for number in range(2_000):
            client.set(f"key {number}", number)
    before = len(source.keys())
    move = redis_cluster.move(300, source, target)
    move.begin()
    assert move.migrate(10) == 10
    assert len(source.keys()) == before - 10
    assert set(source.itself().moving) == set(move.slots)
    moved = move.finish() + 10
    assert len(source.keys()) == before - moved
    assert target.slots() > set(move.slots)
    assert len(redis_cluster.keys()) == 2_000


def test_reset_mends_whatever_was_done(redis_cluster: RedisCluster) -> None:
    first, second, third = redis_cluster.masters()
    redis_cluster.move_slots(10, first, second)
    redis_cluster.move(5, first, third).begin()
    third.fill_memory()
    redis_cluster.kill(redis_cluster.replicas(second)[0])
    redis_cluster.pause(redis_cluster.replicas(third)[0])
    redis_cluster.reset()
    owned = [node.slots() for node in redis_cluster.masters()]
    assert sorted(map(len, owned)) == [5461, 5461, 5462]
    assert len(set().union(*owned)) == 16_384
    assert redis_cluster.keys() == []
    assert not third.is_full()
    assert len(redis_cluster.replicas()) == 3
    assert [node.itself().moving for node in redis_cluster.masters()] == [(), (), ()]


def test_a_full_server_refuses_until_it_is_freed(redis_single: SingleRedis) -> None:
    redis_single.client.set("kept", 1)
    assert redis_single.fill_memory() > 0
    assert redis_single.is_full()
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        redis_single.client.set("refused", 1)
    redis_single.free_memory()
    assert not redis_single.is_full()
    assert redis_single.keys() == [b"kept"]


def test_postgres_keeps_what_was_committed_however_it_ends(postgres_server: Postgres) -> None:
    url = postgres_server.new_database()
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("CREATE TABLE kept (n int)")
        session.execute("INSERT INTO kept VALUES (1)")
    postgres_server.restart("fast")
    postgres_server.restart("immediate")
    postgres_server.crash()
    assert not postgres_server.answers()
    postgres_server.start()
    with psycopg.connect(url) as session:
        assert session.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_connections_are_cut_and_a_slow_server_answers_late(redis_single: SingleRedis) -> None:
    with redis.Redis(port=redis_single.port, socket_timeout=0.3, retry=NO_RETRY) as client:
        before = client.client_id()
        assert redis_single.cut_connections() == 1
        assert client.client_id() != before
        redis_single.hold(1.0)
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        assert redis_single.client.ping()
        assert client.ping()
