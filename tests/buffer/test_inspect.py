"""What operators see, and what `check` finds, on a real Redis and a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from afterglow.buffer.check import check
from afterglow.buffer.connect import Nodes
from afterglow.buffer.inspect import Inspector
from afterglow.buffer.redis import RedisBuffer
from afterglow.buffer.rollout_plan import Held
from afterglow.config import BufferConfig
from afterglow.errors import NotFoundError
from afterglow.testing import ManualClock
from tests.flush.rig import spans_of

NOW_NS = ManualClock().wall_ns()
#: Nothing rides inline, so that layouts can be seen.
CONFIG = BufferConfig(inline_bytes=0, wait_replicas=0)


@pytest.fixture
def buffer(redis_url: str) -> Iterator[RedisBuffer]:
    opened = RedisBuffer.from_url(redis_url, CONFIG)
    yield opened
    opened.close()


def in_phase(redis_url: str, phase: int) -> RedisBuffer:
    return RedisBuffer.from_url(
        redis_url, BufferConfig(inline_bytes=0, wait_replicas=0, rollout_phase=phase)
    )


def kinds(nodes: Nodes, now_ns: int = NOW_NS) -> set[str]:
    return {problem.kind for problem in check(nodes, CONFIG, now_ns)}


def test_stats_of_an_empty_buffer(nodes: Nodes, buffer: RedisBuffer) -> None:
    stats = Inspector(nodes, CONFIG).stats(NOW_NS)
    assert len(stats.shards) == CONFIG.shards
    assert all(shard.oldest_due_s is None for shard in stats.shards)
    assert {node.policy for node in stats.nodes} == {"noeviction"}
    assert (stats.books.held, stats.pressure) == (0, None)
    assert kinds(nodes) == set()


def test_stats_count_what_waits(nodes: Nodes, buffer: RedisBuffer) -> None:
    for trace in range(20):
        buffer.add(spans_of(trace), NOW_NS)
    inspector = Inspector(nodes, CONFIG)
    stats = inspector.stats(NOW_NS)
    assert sum(shard.queued_traces for shard in stats.shards) == 20
    assert sum(shard.held_spans for shard in stats.shards) == 60 == stats.books.held
    assert sum(shard.due_traces for shard in stats.shards) == 0
    later = inspector.stats(NOW_NS + 20 * 10**9)
    assert sum(shard.due_traces for shard in later.shards) == 20
    oldest = [shard.oldest_due_s for shard in later.shards if shard.oldest_due_s is not None]
    assert oldest and all(abs(late_s - 10) < 0.1 for late_s in oldest)
    assert stats.books == buffer.ledger()


def test_a_trace_from_its_first_span_to_its_tombstone(nodes: Nodes, buffer: RedisBuffer) -> None:
    inspector = Inspector(nodes, CONFIG)
    trace_id = spans_of(7)[0].trace_id.hex()
    with pytest.raises(NotFoundError, match="nothing of trace"):
        inspector.trace(trace_id, None, NOW_NS)
    buffer.add(spans_of(7), NOW_NS)
    (held,) = inspector.trace(trace_id, None, NOW_NS)
    assert (held.project, held.held_spans, held.entries, held.distributed_only) == ("p", 3, 1, 1)
    assert held.look_s is not None and 0 < held.look_s <= 10
    assert held.seal is None and held.ttl_s is not None
    due_ns = NOW_NS + 60 * 10**9
    (page,) = buffer.take_due(due_ns, owner="me")
    (taken,) = inspector.trace(trace_id, "p", due_ns)
    assert taken.seal is not None
    assert (taken.seal.owner, taken.seal.entries, taken.seal.sealed_ns) == ("me", 1, due_ns)
    assert 0 < taken.seal.lease_s <= CONFIG.lease_s
    buffer.acknowledge(page)
    (gone,) = inspector.trace(trace_id, None, due_ns)
    assert (gone.held_spans, gone.entries, gone.seal) == (0, 0, None)
    assert gone.remembered_bytes > 0


@pytest.mark.parametrize("text", ["", "zz", "00", "g" * 32])
def test_what_is_no_trace_id(nodes: Nodes, buffer: RedisBuffer, text: str) -> None:
    with pytest.raises(NotFoundError, match="32 hexadecimal digits"):
        Inspector(nodes, CONFIG).trace(text, None, NOW_NS)


def test_entries_by_layout(nodes: Nodes, redis_url: str) -> None:
    inspector = Inspector(nodes, CONFIG)
    for phase, traces in ((0, range(3)), (1, range(3, 5)), (3, range(5, 6))):
        writer = in_phase(redis_url, phase)
        for trace in traces:
            writer.add(spans_of(trace), NOW_NS)
        writer.close()
    assert inspector.held() == Held(colocated_only=3, distributed_only=1)


def test_what_is_left_of_an_entry_counts_too(nodes: Nodes, redis_url: str) -> None:
    """A root that goes out leaves the orphan that came in the same batch behind."""
    writer = in_phase(redis_url, 0)
    root, child, _ = spans_of(1)
    orphan = child._replace(span_id=bytes(7) + b"\x99", parent_span_id=bytes(7) + b"\x98")
    writer.add([root, orphan], NOW_NS)
    for page in writer.take_due(NOW_NS + 11 * 10**9, owner="me"):
        writer.acknowledge(page)
    writer.close()
    assert Inspector(nodes, CONFIG).held() == Held(colocated_only=1)


def test_long_lists_are_read_in_pieces(nodes: Nodes, buffer: RedisBuffer) -> None:
    spans = [
        spans_of(1)[0]._replace(span_id=(i + 1).to_bytes(8), parent_span_id=None)
        for i in range(300)
    ]
    for span in spans:
        buffer.add([span], NOW_NS)
    assert Inspector(nodes, CONFIG).held() == Held(distributed_only=300)


def test_check_finds_what_is_nobodys_and_what_never_goes(nodes: Nodes, buffer: RedisBuffer) -> None:
    buffer.add(spans_of(1), NOW_NS)
    assert kinds(nodes) == set()
    nodes.client.set("span-buf:strange", "1")
    nodes.client.set("span-buf:mk:{b1}:p:00", "1", ex=100)
    nodes.client.set("somebody:else", "1")
    found = {problem.kind: problem for problem in check(nodes, CONFIG, NOW_NS)}
    assert found["keys that no part of Afterglow owns"].examples == ("span-buf:strange",)
    assert found["keys without a TTL"].count == 1
    assert set(found) == {"keys that no part of Afterglow owns", "keys without a TTL"}


def test_check_finds_a_trace_in_no_queue(nodes: Nodes, buffer: RedisBuffer) -> None:
    buffer.add(spans_of(1), NOW_NS)
    for bucket in range(64):
        nodes.client.delete(f"span-buf:q:{{b{bucket}}}")
    assert kinds(nodes) == {"traces in no queue"}


def test_check_finds_shards_that_nobody_flushes(nodes: Nodes, buffer: RedisBuffer) -> None:
    buffer.add(spans_of(1), NOW_NS)
    assert kinds(nodes, NOW_NS + 60 * 10**9) == set()
    assert kinds(nodes, NOW_NS + 100 * 10**9) == {"shards that nobody flushes, or too slowly"}


def test_check_finds_servers_that_evict(nodes: Nodes, buffer: RedisBuffer) -> None:
    _, master = nodes.masters()[0]
    master.config_set("maxmemory-policy", "allkeys-lru")
    assert kinds(nodes) == {"servers that may evict spans"}


def test_check_finds_books_that_do_not_balance(nodes: Nodes, buffer: RedisBuffer) -> None:
    buffer.add(spans_of(1), NOW_NS)
    nodes.client.hincrby("span-buf:ctl:{b0}:books", "i", 5)
    assert kinds(nodes) == {"books that do not balance"}


def test_check_finds_old_payloads_of_nobody(nodes: Nodes, buffer: RedisBuffer) -> None:
    buffer.add(spans_of(1), NOW_NS)
    ttl_s = 2 * round(CONFIG.ttl_s)
    keys = [f"span-buf:s:{{{tag}}}:aa" for tag in (f"p:{99:032x}:aa", f"p:{99:032x}")]
    for key in keys:
        nodes.client.set(key, "1", ex=ttl_s)
    assert kinds(nodes) == set()  # a batch that is just being added looks the same
    for key in keys:
        nodes.client.expire(key, ttl_s - 60)
    (problem,) = check(nodes, CONFIG, NOW_NS)
    assert (problem.kind, problem.count) == ("payloads that nothing refers to", 2)


@pytest.mark.parametrize("look_bytes", [1, 700, 1 << 20])
def test_entries_are_counted_by_layout_however_often_it_stops(
    nodes: Nodes, redis_url: str, monkeypatch: pytest.MonkeyPatch, look_bytes: int
) -> None:
    """The census goes on where it stopped: in the middle of a list, and between two."""
    monkeypatch.setattr("afterglow.buffer.inspect._LOOK_BYTES", look_bytes)
    inline = RedisBuffer.from_url(redis_url, BufferConfig(wait_replicas=0))
    writers = [inline, *(in_phase(redis_url, phase) for phase in (0, 3, 1))]
    for number in range(9):
        for trace in range(5):
            for writer in writers[: 1 + (number + trace) % 4]:
                writer.add(spans_of(trace, size=number), NOW_NS)
    inspector = Inspector(nodes, CONFIG)
    found = [
        state
        for trace in range(5)
        for state in inspector.trace(spans_of(trace)[0].trace_id.hex(), None, NOW_NS)
    ]
    wanted = [[0] * 4 for _ in range(5)]
    for number in range(9):
        for trace in range(5):
            for kind in range(1 + (number + trace) % 4):
                wanted[trace][kind] += 1
    assert [[s.inline, s.colocated_only, s.distributed_only, s.both] for s in found] == wanted
    assert [s.entries for s in found] == [sum(counts) for counts in wanted]
    assert inspector.held() == Held(
        sum(counts[1] for counts in wanted), sum(counts[2] for counts in wanted)
    )
    for writer in writers:
        writer.close()
