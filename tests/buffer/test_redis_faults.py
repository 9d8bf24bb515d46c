"""What a cluster goes through while spans flow: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from time import monotonic_ns

import pytest
from redis.crc import key_slot

from afterglow.buffer import RedisBuffer
from afterglow.buffer.keys import bucket_of
from afterglow.model.segment import AddResult, BufferedSpan
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.buffer.stream import (
    LATER_NS,
    NOW_NS,
    Delivery,
    batches,
    bucket_slots,
    check_keys,
    open_buffer,
    trace,
)


def add_until_accepted(buffer: RedisBuffer, batch: Sequence[BufferedSpan]) -> list[AddResult]:
    """As a sender does: the same batch again while it is refused. Returns the refusals."""
    refusals = []
    while True:
        result = buffer.add(batch, NOW_NS)
        if result.refused == 0:
            return refusals
        assert (result.accepted, result.refused) == (0, len(batch))
        refusals.append(result)
        assert len(refusals) < 100, refusals[-1]


def test_a_master_dies_while_spans_flow(redis_cluster: RedisCluster) -> None:
    given = batches(1)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    for batch in given[:5]:
        add_until_accepted(buffer, batch)
    early = list(buffer.take_due(LATER_NS - 40 * 10**9, owner="a", max_bytes=50_000))
    delivery.write(early[0])
    dead = redis_cluster.kill(redis_cluster.master_of(bucket_slots()[0]))
    for batch in given[5:]:
        add_until_accepted(buffer, batch)
    redis_cluster.wait_promoted(dead)
    assert buffer.acknowledge(early[0]) == len(early[0])
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters(), roots=False)
    buffer.close()


def test_a_master_dies_between_taking_and_acknowledging(redis_cluster: RedisCluster) -> None:
    given = batches(2)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    for batch in given:
        add_until_accepted(buffer, batch)
    pages = list(buffer.take_due(LATER_NS, owner="a", max_bytes=50_000))
    dead = redis_cluster.kill(redis_cluster.masters()[1])
    redis_cluster.wait_promoted(dead)
    for page in pages:
        delivery.write(page)
        assert buffer.acknowledge(page) == len(page)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_scripts_are_forgotten_between_any_two_calls(redis_cluster: RedisCluster) -> None:
    given = batches(3)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    for batch in given:
        redis_cluster.script_flush()
        assert buffer.add(batch, NOW_NS).accepted == len(batch)
    for page in buffer.take_due(LATER_NS, owner="a", max_bytes=50_000):
        delivery.write(page)
        redis_cluster.script_flush()
        assert buffer.acknowledge(page) == len(page)
        redis_cluster.script_flush()
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_slots_move_while_spans_flow(redis_cluster: RedisCluster) -> None:
    given = batches(4)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    one, other, _ = redis_cluster.masters()
    owned = one.slots()
    slots = sorted({key_slot(key) for key in bucket_slots()} & owned)[:6] + sorted(owned)[:300]
    move = redis_cluster.move(sorted(set(slots)), one, other)
    for batch in given[:4]:
        add_until_accepted(buffer, batch)
    half = threading.Timer(0.3, move.finish)
    move.begin()
    move.migrate(most=7)
    half.start()
    for batch in given[4:]:
        add_until_accepted(buffer, batch)
    half.join()
    back = redis_cluster.move(sorted(set(slots)), other, one)
    taking = buffer.take_due(LATER_NS, owner="a", max_bytes=50_000)
    delivery.write(first := next(taking))
    back.begin()
    back.migrate(most=5)
    rest = threading.Timer(0.3, back.finish)
    rest.start()
    assert buffer.acknowledge(first) == len(first)
    for page in taking:
        delivery.write(page)
        assert buffer.acknowledge(page) == len(page)
    rest.join()
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_a_slot_that_stays_half_moved_refuses_and_recovers(redis_cluster: RedisCluster) -> None:
    given = batches(5)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url, redis_timeout_s=0.3)
    for batch in given[:6]:
        add_until_accepted(buffer, batch)
    span = given[6][0]
    queue = bucket_slots()[bucket_of(span.project.encode(), span.trace_id)]
    one = redis_cluster.master_of(queue)
    other = next(node for node in redis_cluster.masters() if node is not one)
    move = redis_cluster.move([key_slot(queue)], one, other)
    move.begin()
    move.migrate(most=1)
    refused = [buffer.add(batch, NOW_NS) for batch in given[6:]]
    assert refused[0].refused == len(given[6])
    assert all(result.reason for result in refused if result.refused)
    move.finish()
    for batch in given[6:]:
        add_until_accepted(buffer, batch)
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_a_full_redis_refuses_spans_and_flushes_on(redis_cluster: RedisCluster) -> None:
    given = batches(6)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    for batch in given[:-1]:
        add_until_accepted(buffer, batch)
    for master in redis_cluster.masters():
        master.fill_memory(room_bytes=200_000)
    result = buffer.add(given[-1], NOW_NS)
    assert result.refused == len(given[-1])
    assert "full" in str(result.reason)
    held = buffer.ledger().held
    assert delivery.flush(buffer) > 0
    assert buffer.ledger().held < held
    for master in redis_cluster.masters():
        master.free_memory()
    add_until_accepted(buffer, given[-1])
    delivery.flush(buffer, LATER_NS + 1)
    delivery.check(buffer, redis_cluster.masters(), roots=False)
    buffer.close()


def test_connections_are_cut_at_any_time(redis_cluster: RedisCluster) -> None:
    given = batches(7)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url)
    over = threading.Event()

    def cut() -> None:
        # For less long than a call is patient: a machine may be so busy that no answer ever comes
        # between two cuts.
        end_ns = monotonic_ns() + 3 * 10**9
        while not over.wait(0.005) and monotonic_ns() < end_ns:
            for master in redis_cluster.masters():
                master.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for batch in given:
            add_until_accepted(buffer, batch)
        delivery.flush(buffer)
        delivery.flush(buffer, LATER_NS + 60 * 10**9)  # a seal whose answer was cut off
    finally:
        over.set()
        cutter.join()
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_a_slow_node_is_waited_for_and_then_refused(redis_cluster: RedisCluster) -> None:
    given = batches(8)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url, redis_timeout_s=0.3)
    add_until_accepted(buffer, given[0])
    slow = redis_cluster.master_of(bucket_slots()[0])
    slow.ask("CLIENT", "PAUSE", 1_000, "ALL")
    result = next(r for r in (buffer.add(batch, NOW_NS) for batch in given) if r.refused)
    assert result.reason
    slow.ask("CLIENT", "UNPAUSE")
    for batch in given:
        add_until_accepted(buffer, batch)
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_without_its_replicas_a_cluster_takes_nothing_in(redis_cluster: RedisCluster) -> None:
    given = batches(9)
    delivery = Delivery(given)
    buffer = open_buffer(redis_cluster.url, redis_timeout_s=0.3)
    for replica in redis_cluster.replicas():
        replica.pause()
    result = buffer.add(given[0], NOW_NS)
    for replica in redis_cluster.replicas() or redis_cluster.nodes:
        replica.resume()
    assert result.refused == len(given[0])
    assert "replicas" in str(result.reason)
    redis_cluster.wait_until_ok()
    for batch in given:
        add_until_accepted(buffer, batch)
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


@pytest.mark.parametrize("n_spans, payload_bytes", [(4_500, 20), (30, 70_000), (1, 300_000)])
def test_large_subtrees_and_large_spans(
    redis_cluster: RedisCluster, n_spans: int, payload_bytes: int
) -> None:
    spans = trace(random.Random(n_spans), n_spans, payload_bytes)
    delivery = Delivery([spans])
    buffer = open_buffer(redis_cluster.url, max_segment_bytes=500_000)
    assert buffer.add(spans[::-1], NOW_NS).accepted == n_spans
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


def test_a_chain_100_000_deep(redis_single: SingleRedis) -> None:
    ids = [n.to_bytes(8, "big") for n in range(1, 100_001)]
    parents = [None, *ids]
    spans = [
        BufferedSpan("shop", b"t" * 16, span_id, parent, False, span_id)
        for span_id, parent in zip(ids, parents, strict=False)
    ]
    delivery = Delivery([spans])
    buffer = RedisBuffer.from_url(redis_single.url)
    leaves_first = spans[::-1]
    for at in range(0, len(spans), 10_000):
        assert buffer.add(leaves_first[at : at + 10_000], NOW_NS).refused == 0
    delivery.flush(buffer)
    delivery.check(buffer, [redis_single])
    buffer.close()


def test_keys_have_a_ttl_while_spans_wait(redis_cluster: RedisCluster) -> None:
    buffer = open_buffer(redis_cluster.url)
    for batch in batches(10):
        add_until_accepted(buffer, batch)
    list(buffer.take_due(LATER_NS, owner="a"))
    check_keys(redis_cluster.masters(), left=True)
    buffer.close()
