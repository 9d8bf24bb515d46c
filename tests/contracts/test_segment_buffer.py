"""The contract of SegmentBuffer, rule by rule (sequences of steps are beside this file)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan, SegmentPart
from tests.contracts.segment_backends import Backend

S = 10**9
T0 = 1_700_000_000 * S
TRACE = bytes([7] * 16)
CONFIG = BufferConfig(
    root_timeout_s=10, timeout_s=60, max_open_s=600, lease_s=30, max_segment_bytes=1024
)


def span_id(n: int) -> bytes:
    return n.to_bytes(8, "big")


def span(n: int, parent: int | None = None, **other: Any) -> BufferedSpan:
    given = {"project": "shop", "trace_id": TRACE, "is_segment_root": False, "payload": b"x"}
    above = None if parent is None else span_id(parent)
    return BufferedSpan(span_id=span_id(n), parent_span_id=above, **{**given, **other})


def take(buffer: Any, now_ns: int, owner: str = "ada", **limits: Any) -> list[SegmentPart]:
    return [part for page in buffer.take_due(now_ns, owner=owner, **limits) for part in page]


@pytest.fixture
def buffer(backend: Backend) -> Any:
    buffer = backend.new(CONFIG)
    yield buffer
    assert buffer.ledger().balanced
    buffer.close()


def traces(n: int) -> list[BufferedSpan]:
    """One root in each of n traces."""
    return [span(1, trace_id=(n + 1).to_bytes(16, "big")) for n in range(n)]


def test_a_tree_is_due_when_its_root_was_quiet(buffer: Any) -> None:
    buffer.add([span(2, 1), span(1)], T0)
    buffer.add([span(3, 2)], T0 + 4 * S)
    assert take(buffer, T0 + 14 * S - 1) == []
    (part,) = take(buffer, T0 + 14 * S)
    assert part.root_span_id == span_id(1)
    assert part.span_ids == (span_id(2), span_id(1), span_id(3))
    assert (part.part, part.is_last, part.addendum) == (0, True, False)
    assert buffer.ledger().held == 3
    assert buffer.acknowledge([part]) == 1
    assert (buffer.ledger().held, buffer.ledger().delivered) == (0, 3)


def test_an_orphan_waits_longer(buffer: Any) -> None:
    buffer.add([span(2, 1)], T0)
    assert take(buffer, T0 + 60 * S - 1) == []
    (part,) = take(buffer, T0 + 60 * S)
    assert part.root_span_id == span_id(2)


def test_a_root_ends_the_wait_of_its_orphans(buffer: Any) -> None:
    buffer.add([span(2, 1)], T0)
    buffer.add([span(1)], T0 + S)
    assert take(buffer, T0 + 11 * S - 1) == []
    (part,) = take(buffer, T0 + 11 * S)
    assert part.span_ids == (span_id(2), span_id(1))


def test_a_parent_between_ends_the_wait_of_orphans(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    buffer.add([span(3, 2)], T0 + S)
    buffer.add([span(2, 1)], T0 + 2 * S)
    (part,) = take(buffer, T0 + 12 * S)
    assert part.span_ids == (span_id(1), span_id(3), span_id(2))


def test_an_endless_stream_does_not_keep_a_segment_for_ever(buffer: Any) -> None:
    now_ns = T0
    for n in range(2, 122):
        buffer.add([span(n, 1)] if n > 2 else [span(1), span(2, 1)], now_ns)
        now_ns += 5 * S
    assert now_ns == T0 + 600 * S
    assert take(buffer, now_ns - 1) == []
    (part,) = take(buffer, now_ns)
    assert len(part.span_ids) == 121


def test_late_spans_are_an_addendum_with_the_true_root(buffer: Any) -> None:
    buffer.add([span(1), span(2, 1)], T0)
    buffer.acknowledge(take(buffer, T0 + 10 * S))
    buffer.add([span(4, 3), span(3, 2)], T0 + 20 * S)
    assert take(buffer, T0 + 30 * S - 1) == []
    (part,) = take(buffer, T0 + 30 * S)
    assert (part.root_span_id, part.addendum) == (span_id(1), True)
    assert part.span_ids == (span_id(4), span_id(3))


def test_spans_that_come_while_a_segment_is_out_are_its_addendum(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    taken = take(buffer, T0 + 10 * S)
    buffer.add([span(2, 1)], T0 + 11 * S)
    assert take(buffer, T0 + 25 * S, "bob") == []
    assert buffer.acknowledge(taken) == 1
    (part,) = take(buffer, T0 + 25 * S, "bob")
    assert (part.root_span_id, part.addendum, part.span_ids) == (span_id(1), True, (span_id(2),))


def test_what_comes_while_a_segment_is_out_does_not_wait_for_the_orphan_beside_it(
    buffer: Any,
) -> None:
    buffer.add([span(1), span(5, 4)], T0)
    taken = take(buffer, T0 + 10 * S)
    buffer.add([span(8)], T0 + 11 * S)
    assert buffer.acknowledge(taken) == 1
    assert [part.span_ids for part in take(buffer, T0 + 21 * S)] == [(span_id(8),)]


def test_a_part_that_is_acknowledged_twice_counts_once(buffer: Any) -> None:
    buffer.add([span(1, payload=b"x" * 800), span(2, 1, payload=b"x" * 800)], T0)
    first, second = take(buffer, T0 + 10 * S)
    for _ in range(2):
        buffer.acknowledge([first])
        assert (buffer.ledger().delivered, buffer.ledger().held) == (1, 1)
    assert buffer.acknowledge([second]) == 1
    assert (buffer.ledger().delivered, buffer.ledger().held) == (2, 0)


def test_an_orphan_that_went_out_stays_a_root(buffer: Any) -> None:
    buffer.add([span(3, 2)], T0)
    buffer.acknowledge(take(buffer, T0 + 60 * S))
    buffer.add([span(2, 1), span(1), span(4, 3)], T0 + 61 * S)
    found = {p.root_span_id: (p.span_ids, p.addendum) for p in take(buffer, T0 + 71 * S)}
    assert found == {
        span_id(1): ((span_id(2), span_id(1)), False),
        span_id(3): ((span_id(4),), True),
    }


def test_repeats_are_dropped_and_counted(buffer: Any) -> None:
    batch = [span(1), span(2, 1, payload=b"first")]
    for again in (batch, [span(2, 1, payload=b"second")], batch[:1]):
        buffer.add(again, T0)
    (part,) = take(buffer, T0 + 10 * S)
    assert part.payloads == (b"x", b"first")
    buffer.acknowledge([part])
    buffer.add(batch, T0 + 11 * S)
    assert take(buffer, T0 + 80 * S) == []
    books = buffer.ledger()
    assert (books.ingested, books.delivered, books.held) == (6, 2, 0)
    assert books.dropped == {"shop": {"duplicate": 4}}


def test_a_repeat_is_no_addition(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    buffer.add([span(1)], T0 + 9 * S)
    assert len(take(buffer, T0 + 10 * S)) == 1


def test_ids_that_are_none_are_dropped_by_project(buffer: Any) -> None:
    wrong = [
        span(1, trace_id=b"short"),
        span(1, trace_id=bytes(16)),
        span(2, project="mail")._replace(span_id=b"1234567"),
        span(2, project="mail")._replace(span_id=bytes(8)),
        span(2)._replace(parent_span_id=b"123456789"),
    ]
    result = buffer.add([*wrong, span(1)], T0)
    assert (result.accepted, result.refused) == (1, 0)
    assert result.dropped == {"invalid_id": 5}
    assert buffer.ledger().dropped == {"shop": {"invalid_id": 3}, "mail": {"invalid_id": 2}}
    assert len(take(buffer, T0 + 10 * S)) == 1


def test_no_parent_may_be_said_in_three_ways(buffer: Any) -> None:
    buffer.add([span(1), span(2)._replace(parent_span_id=b""), span(3, 0)], T0)
    assert len(take(buffer, T0 + 10 * S)) == 3


def test_a_payload_above_the_limit_is_dropped(backend: Backend) -> None:
    buffer = backend.new(BufferConfig(max_span_bytes=2_000))
    result = buffer.add([span(1, payload=bytes(2_000)), span(2, 1, payload=bytes(2_001))], T0)
    assert (result.accepted, dict(result.dropped)) == (1, {"too_large": 1})
    assert buffer.ledger().dropped == {"shop": {"too_large": 1}}
    buffer.close()


def test_payloads_come_out_as_they_went_in(buffer: Any) -> None:
    rng = random.Random(1)
    payloads = [rng.randbytes(n) for n in (0, 1, 5, 700, 0, 40_000, 300_000)]
    names = ["shop", "a:b", "{tag}", "naïve 店", ""]
    given = [
        span(n, 1 if n > 1 else None, project=project, payload=payload)
        for project in names
        for n, payload in enumerate(payloads, 1)
    ]
    buffer.add(given, T0)
    parts = take(buffer, T0 + 10 * S)
    found = {
        (part.project, one): payload
        for part in parts
        for one, payload in zip(part.span_ids, part.payloads, strict=True)
    }
    assert found == {(one.project, one.span_id): one.payload for one in given}


def test_a_segment_above_the_limit_goes_out_in_parts(buffer: Any) -> None:
    sizes = [500, 500, 24, 1, 2_000, 0, 0, 1_024, 0, 5]
    buffer.add([span(n, 1, payload=bytes(size)) for n, size in enumerate(sizes, 1)], T0)
    parts = take(buffer, T0 + 10 * S)
    assert [[len(p) for p in part.payloads] for part in parts] == [
        [500, 500, 24], [1], [2_000], [0, 0, 1_024, 0], [5],
    ]  # fmt: skip
    assert [part.part for part in parts] == [0, 1, 2, 3, 4]
    assert [part.is_last for part in parts] == [False] * 4 + [True]
    assert len({part.message_id for part in parts}) == 5
    assert {part.root_span_id for part in parts} == {span_id(1)}


@pytest.mark.parametrize("n_spans", [1_500, 12_000])
def test_no_depth_and_no_size_is_too_much(backend: Backend, n_spans: int) -> None:
    buffer = backend.new(BufferConfig())
    leaves_first = [span(n, n - 1 if n > 1 else None) for n in range(n_spans, 0, -1)]
    for begin in range(0, n_spans, 5_000):
        buffer.add(leaves_first[begin : begin + 5_000], T0)
    (part,) = take(buffer, T0 + 10 * S)
    assert part.root_span_id == span_id(1)
    assert len(part.span_ids) == n_spans
    buffer.acknowledge([part])
    assert buffer.ledger().delivered == n_spans
    buffer.close()


def test_pages_are_of_about_the_bytes_asked_for(buffer: Any) -> None:
    given = traces(20)
    buffer.add([one._replace(payload=bytes(300)) for one in given], T0)
    pages = list(buffer.take_due(T0 + 10 * S, owner="ada", max_bytes=1_000))
    assert [len(page) for page in pages] == [3] * 6 + [2]


def test_no_more_segments_than_asked_for(buffer: Any) -> None:
    buffer.add(traces(9), T0)
    first = take(buffer, T0 + 10 * S, max_segments=4)
    second = take(buffer, T0 + 10 * S, max_segments=4)
    third = take(buffer, T0 + 10 * S, max_segments=4)
    assert [len(first), len(second), len(third)] == [4, 4, 1]
    assert len({part.trace_id for part in first + second + third}) == 9
    assert take(buffer, T0 + 10 * S, max_segments=0) == []


def test_shards_share_the_work_out(buffer: Any) -> None:
    buffer.add(traces(60), T0)
    found = [
        part.trace_id
        for shard in range(CONFIG.shards)
        for part in take(buffer, T0 + 10 * S, shards=[shard])
    ]
    assert sorted(found) == [(n + 1).to_bytes(16, "big") for n in range(60)]
    buffer.add([span(2, 1, trace_id=trace_id) for trace_id in found], T0)
    assert take(buffer, T0 + 10 * S, shards=[]) == []


def test_a_trace_is_in_one_shard(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    (shard,) = [s for s in range(CONFIG.shards) if take(buffer, T0 + 10 * S, shards=[s])]
    others = [s for s in range(CONFIG.shards) if s != shard]
    assert take(buffer, T0 + 50 * S, shards=others) == []
    assert len(take(buffer, T0 + 50 * S, shards={shard})) == 1


def test_a_dead_owner_is_taken_over_and_cannot_acknowledge(buffer: Any) -> None:
    buffer.add([span(1), span(2, 1)], T0)
    (old,) = take(buffer, T0 + 10 * S, "ada")
    buffer.add([span(3, 1)], T0 + 11 * S)
    assert take(buffer, T0 + 40 * S - 1, "bob") == []
    (new,) = take(buffer, T0 + 40 * S, "bob")
    assert new.fence != old.fence
    assert (new.message_id, new.span_ids) == (old.message_id, (span_id(1), span_id(2)))
    assert buffer.acknowledge([old]) == 0
    assert (buffer.ledger().delivered, buffer.ledger().held) == (0, 3)
    buffer.release([old])
    assert take(buffer, T0 + 41 * S, "carl") == []
    assert buffer.acknowledge([new]) == 1
    assert buffer.acknowledge([new]) == 0
    assert (buffer.ledger().delivered, buffer.ledger().held) == (2, 1)


def test_the_same_owner_that_takes_again_has_a_new_fence(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    (old,) = take(buffer, T0 + 10 * S, "ada")
    (new,) = take(buffer, T0 + 40 * S, "ada")
    assert buffer.acknowledge([old]) == 0
    assert buffer.acknowledge([new]) == 1


def test_what_is_released_is_due_at_once_for_anybody(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    (old,) = take(buffer, T0 + 10 * S, "ada")
    buffer.release([old])
    (new,) = take(buffer, T0 + 10 * S, "bob")
    assert new.message_id == old.message_id
    assert buffer.acknowledge([old]) == 0
    assert buffer.acknowledge([new]) == 1


def test_a_takeover_decides_as_at_the_time_of_the_seal(buffer: Any) -> None:
    """What became due since then waits for its turn, and is no part of what is taken over."""
    buffer.add([span(1)], T0)
    buffer.add([span(5, 4)], T0 - 45 * S)
    (old,) = take(buffer, T0 + 10 * S, "ada")
    (new,) = take(buffer, T0 + 40 * S, "bob")
    assert (new.root_span_id, new.message_id) == (span_id(1), old.message_id)
    assert buffer.acknowledge([new]) == 1
    (orphan,) = take(buffer, T0 + 40 * S, "bob")
    assert orphan.root_span_id == span_id(5)


def test_leaving_early_leaves_what_was_taken_leased(buffer: Any) -> None:
    buffer.add([one._replace(payload=bytes(300)) for one in traces(12)], T0)
    pages = buffer.take_due(T0 + 10 * S, owner="ada", max_bytes=1_000)
    seen = {part.trace_id: part.message_id for part in next(pages)}
    pages.close()
    assert len(seen) == 3
    others = {part.trace_id for part in take(buffer, T0 + 10 * S, "bob")}
    assert not others & seen.keys()
    again = take(buffer, T0 + 40 * S, "carl")
    assert len(again) == 12
    assert seen.items() <= {part.trace_id: part.message_id for part in again}.items()
    assert buffer.acknowledge(again) == 12


def test_parts_that_were_acknowledged_are_not_needed_again(buffer: Any) -> None:
    buffer.add([span(n, 1, payload=bytes(1_000)) for n in (1, 2, 3)], T0)
    old = take(buffer, T0 + 10 * S, "ada")
    assert buffer.acknowledge(old[:1]) == 1
    new = take(buffer, T0 + 40 * S, "bob")
    assert {p.message_id for p in old[1:]} <= {p.message_id for p in new}
    assert buffer.acknowledge(old[1:]) == 0
    assert buffer.acknowledge(new) == len(new)
    assert (buffer.ledger().delivered, buffer.ledger().held) == (3, 0)
    assert take(buffer, T0 + 100 * S) == []


def test_a_refusal_of_the_sink_is_counted_as_such(buffer: Any) -> None:
    buffer.add([span(1), span(2, 1)], T0)
    assert buffer.acknowledge(take(buffer, T0 + 10 * S), dropped="sink_refused") == 1
    books = buffer.ledger()
    assert (books.delivered, books.held) == (0, 0)
    assert books.dropped == {"shop": {"sink_refused": 2}}


def test_nothing_is_a_batch_too(buffer: Any) -> None:
    result = buffer.add([], T0)
    assert (result.accepted, result.refused) == (0, 0)
    assert buffer.acknowledge([]) == 0
    buffer.release([])
    assert take(buffer, T0 + 10 * S) == []
    assert buffer.ledger().ingested == 0


def test_another_process_sees_the_same_buffer(backend: Backend) -> None:
    here = backend.new(CONFIG)
    there = backend.another(here)
    here.add([span(1)], T0)
    there.add([span(2, 1)], T0)
    (part,) = take(there, T0 + 10 * S)
    assert part.span_ids == (span_id(1), span_id(2))
    assert here.acknowledge([part]) == 1
    assert there.ledger() == here.ledger()
    here.close()
    if there is not here:
        there.close()
