"""What from_url refuses, in one line; phases side by side; back-pressure; expiry."""

from __future__ import annotations

import msgspec
import pytest

from afterglow.buffer import RedisBuffer
from afterglow.buffer.connect import connect
from afterglow.buffer.control_keys import ControlKeys
from afterglow.buffer.pressure import RedisPressure
from afterglow.errors import SettingError, SpanBufferError
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.buffer.stream import CONFIG, LATER_NS, NOW_NS, Delivery, batches, open_buffer

S = 10**9


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://localhost", "redis://a:1,b:2", "redis+cluster://"]
)
def test_what_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(SettingError) as raised:
        RedisBuffer.from_url(url)
    assert "redis://" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_is_away(redis_single: SingleRedis) -> None:
    with pytest.raises(SpanBufferError) as raised:
        RedisBuffer.from_url("redis://127.0.0.1:1/0")
    assert "127.0.0.1:1" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_may_evict_is_refused(redis_cluster: RedisCluster) -> None:
    node = redis_cluster.masters()[1]
    node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(SpanBufferError) as raised:
        RedisBuffer.from_url(redis_cluster.url)
    node.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "allkeys-lru" in str(raised.value)
    assert node.address in str(raised.value)
    RedisBuffer.from_url(redis_cluster.url).close()


def test_the_password_of_the_url_is_used(redis_single: SingleRedis) -> None:
    redis_single.ask("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all")
    url = redis_single.url.replace("redis://", "redis://ann:secret@")
    buffer = RedisBuffer.from_url(url)
    assert buffer.add(batches(30)[0], NOW_NS).refused == 0
    buffer.close()
    with pytest.raises(SpanBufferError) as raised:
        RedisBuffer.from_url(url.replace("secret", "wrong-one"))
    assert "wrong-one" not in str(raised.value)
    redis_single.ask("ACL", "DELUSER", "ann")


def test_every_phase_beside_every_other(redis_cluster: RedisCluster) -> None:
    """Four workers, each in its own phase, and flushers in each: nothing lost or doubled."""
    given = batches(31, n_traces=24)
    delivery = Delivery(given)
    buffers = [open_buffer(redis_cluster.url, rollout_phase=phase) for phase in range(4)]
    for number, batch in enumerate(given):
        assert buffers[number % 4].add(batch, NOW_NS).refused == 0
        buffers[(number + 1) % 4].add(batch[:20], NOW_NS)
    for phase, buffer in enumerate(buffers):
        shards = range(4 * phase, 4 * phase + 4)
        for page in buffer.take_due(LATER_NS, owner=f"f{phase}", shards=shards, max_bytes=50_000):
            delivery.write(page)
            assert buffer.acknowledge(page) == len(page)
    delivery.check(buffers[0], redis_cluster.masters())
    for buffer in buffers:
        buffer.close()


@pytest.mark.parametrize("phase, layouts", [(0, {3}), (1, {3, 4}), (2, {3, 4}), (3, {4})])
def test_a_phase_writes_its_layouts(
    redis_single: SingleRedis, phase: int, layouts: set[int]
) -> None:
    """Keys of chunks: `{project:trace}` is colocated, `{project:trace:chunk}` distributed."""
    buffer = open_buffer(redis_single.url, rollout_phase=phase, inline_bytes=0)
    for batch in batches(32)[:2]:
        buffer.add(batch, NOW_NS)
    chunks = redis_single.keys("span-buf:s:*")
    assert chunks
    assert {key.partition(b"}")[0].count(b":") for key in chunks} == layouts
    buffer.close()


def test_the_phase_that_an_operator_sets_is_followed(redis_single: SingleRedis) -> None:
    from afterglow.testing import ManualClock

    clock = ManualClock()
    config = msgspec.structs.replace(CONFIG, inline_bytes=0)
    buffer = RedisBuffer.from_url(redis_single.url, config, clock=clock)
    given = batches(33)
    for phase, layouts in ((0, {3}), (3, {4})):
        redis_single.ask("SET", ControlKeys("span-buf").rollout, f'{{"phase":{phase}}}')
        clock.advance_s(1.5)
        before = set(redis_single.keys("span-buf:s:*"))
        assert buffer.add(given[phase], NOW_NS).refused == 0
        new = set(redis_single.keys("span-buf:s:*")) - before
        assert {key.partition(b"}")[0].count(b":") for key in new} == layouts
    buffer.close()


def test_pressure_makes_add_refuse_and_flushing_goes_on(redis_cluster: RedisCluster) -> None:
    given = batches(34)
    buffer = open_buffer(redis_cluster.url)
    for batch in given:
        buffer.add(batch, NOW_NS)
    nodes = connect(redis_cluster.url, 5.0)
    RedisPressure(nodes, CONFIG).press("a flusher is behind")
    nodes.close()
    other = open_buffer(redis_cluster.url)
    refused = other.add(given[0], NOW_NS)
    assert (refused.refused, refused.reason) == (len(given[0]), "a flusher is behind")
    assert refused.retry_after_s > 0
    delivery = Delivery(given)
    delivery.flush(other)
    delivery.check(other, redis_cluster.masters())
    other.close()
    buffer.close()


def test_a_node_above_its_memory_share_makes_add_refuse(redis_single: SingleRedis) -> None:
    from afterglow.testing import ManualClock

    clock = ManualClock()
    buffer = RedisBuffer.from_url(redis_single.url, CONFIG, clock=clock)
    given = batches(35)
    assert buffer.add(given[0], NOW_NS).refused == 0
    redis_single.ask("CONFIG", "SET", "maxmemory", redis_single.used_memory_bytes() * 11 // 10)
    for _ in range(3):
        clock.advance_s(2.5)
        result = buffer.add(given[1], NOW_NS)
    assert result.refused
    assert "maxmemory" in str(result.reason)
    redis_single.ask("CONFIG", "SET", "maxmemory", 0)
    buffer.close()


def test_what_redis_let_go_is_counted_as_expired(redis_single: SingleRedis) -> None:
    given = batches(36)
    buffer = open_buffer(redis_single.url)
    for batch in given:
        buffer.add(batch, NOW_NS)
    for key in redis_single.keys("span-buf:mk:*"):  # what ttl_s without flushers does
        redis_single.ask("DEL", key)
    half = given[: len(given) // 2]
    for batch in half:
        buffer.add(batch, NOW_NS)
    for page in buffer.take_due(LATER_NS, owner="a"):
        buffer.acknowledge(page)
    books = buffer.ledger()
    assert books.balanced
    assert books.held == 0
    assert books.delivered == sum(map(len, half))
    assert books.dropped["shop"]["expired"] == sum(map(len, given))
    buffer.close()


def test_chunks_that_redis_let_go_are_counted_as_expired(redis_single: SingleRedis) -> None:
    given = batches(37)
    buffer = open_buffer(redis_single.url, inline_bytes=0)
    for batch in given:
        buffer.add(batch, NOW_NS)
    for key in redis_single.keys("span-buf:s:*")[::2]:
        redis_single.ask("DEL", key)
    came = 0
    for page in buffer.take_due(LATER_NS, owner="a"):
        came += sum(len(part.span_ids) for part in page)
        buffer.acknowledge(page)
    books = buffer.ledger()
    assert books.balanced
    assert (books.held, books.delivered) == (0, came)
    assert books.dropped["shop"]["expired"] == sum(map(len, given)) - came
    buffer.close()


def test_what_redis_does_not_permit_is_a_refusal_in_one_line(redis_single: SingleRedis) -> None:
    redis_single.ask("ACL", "SETUSER", "bob", "on", ">secret", "~*", "+@all")
    url = redis_single.url.replace("redis://", "redis://bob:secret@")
    buffer = RedisBuffer.from_url(url)
    given = batches(38)
    assert buffer.add(given[0], NOW_NS).refused == 0
    redis_single.ask("ACL", "SETUSER", "bob", "-rpush", "-zrange")
    refused = buffer.add(given[1], NOW_NS)
    assert refused.refused == len(given[1])
    assert "\n" not in str(refused.reason)
    with pytest.raises(SpanBufferError) as raised:
        list(buffer.take_due(LATER_NS, owner="a"))
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    redis_single.ask("ACL", "SETUSER", "bob", "+@all")
    delivery = Delivery(given)
    for batch in given:
        assert buffer.add(batch, NOW_NS).refused == 0
    delivery.flush(buffer)
    delivery.check(buffer, [redis_single])
    buffer.close()
    redis_single.ask("ACL", "DELUSER", "bob")


def test_a_closed_buffer_refuses_and_may_be_closed_again(redis_single: SingleRedis) -> None:
    buffer = open_buffer(redis_single.url)
    buffer.close()
    buffer.close()
    refused = buffer.add(batches(39)[0], NOW_NS)
    assert (refused.accepted, refused.reason) == (0, "the buffer is closed")
    with pytest.raises(SpanBufferError):
        list(buffer.take_due(LATER_NS, owner="a"))
