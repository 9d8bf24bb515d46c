"""What is special of the memory buffer: its limits, what it forgets, what it costs to be idle."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from afterglow.buffer import MemoryBuffer
from afterglow.buffer.held_traces import SPAN_BYTES
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan, SegmentPart

S = 10**9
T0 = 1_700_000_000 * S


def span(n: int, parent: int | None = None, trace: int = 7, payload: bytes = b"x") -> BufferedSpan:
    above = None if parent is None else parent.to_bytes(8, "big")
    return BufferedSpan(
        "shop", trace.to_bytes(16, "big"), n.to_bytes(8, "big"), above, False, payload
    )


def take(buffer: MemoryBuffer, now_ns: int, owner: str = "ada") -> list[SegmentPart]:
    return [part for page in buffer.take_due(now_ns, owner=owner) for part in page]


def flush(buffer: MemoryBuffer, now_ns: int) -> list[SegmentPart]:
    parts = take(buffer, now_ns)
    assert buffer.acknowledge(parts) == len(parts)
    return parts


def calls(work: Any) -> int:
    """How many functions are called while it works."""
    n = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal n
        n += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return n


def test_a_full_buffer_refuses_the_whole_batch_as_a_value() -> None:
    buffer = MemoryBuffer(BufferConfig(max_held_bytes=2_000 + 4 * SPAN_BYTES))
    assert buffer.add([span(1, payload=bytes(1_000)), span(2, 1)], T0).accepted == 2
    too_much = [span(3, 1, payload=bytes(900)), span(4, 1, payload=bytes(900)), span(0)]
    result = buffer.add(too_much, T0)
    assert (result.accepted, result.dropped, result.refused) == (0, {}, 3)
    assert result.reason == "the buffer is full"
    assert result.retry_after_s > 0
    assert buffer.ledger().ingested == 2
    flush(buffer, T0 + 10 * S)
    result = buffer.add(too_much, T0 + 10 * S)
    assert (result.accepted, result.refused) == (2, 0)


def test_exactly_what_there_is_room_for_is_taken() -> None:
    buffer = MemoryBuffer(BufferConfig(max_held_bytes=1_024 + 2 * SPAN_BYTES))
    assert buffer.add([span(1, payload=bytes(1_000))], T0).accepted == 1
    assert buffer.add([span(2, 1, payload=bytes(25))], T0).refused == 1
    assert buffer.add([span(2, 1, payload=bytes(24))], T0).accepted == 1


def test_an_empty_buffer_takes_any_one_batch() -> None:
    """Else a sender with a large batch would wait for ever."""
    buffer = MemoryBuffer(BufferConfig(max_held_bytes=1_024))
    assert buffer.add([span(1, payload=bytes(100_000))], T0).accepted == 1
    assert buffer.add([span(2, 1)], T0).refused == 1


def test_all_room_comes_back() -> None:
    buffer = MemoryBuffer(BufferConfig(max_segment_bytes=1_024, tombstone_s=0))
    for batch in ([span(1, payload=bytes(1_000)), span(2, 1), span(2, 1)], [span(3, 9), span(1)]):
        buffer.add(batch, T0)
    flush(buffer, T0 + 10 * S)
    assert buffer.held_bytes == SPAN_BYTES + 1
    flush(buffer, T0 + 60 * S)
    assert buffer.held_bytes == 0
    assert buffer._traces == {}
    assert len(buffer._remembered) == 0


def test_a_closed_buffer_takes_nothing_in_and_gives_out_what_it_has() -> None:
    buffer = MemoryBuffer()
    buffer.add([span(1)], T0)
    buffer.close()
    result = buffer.add([span(2, 1)], T0)
    assert (result.refused, result.reason) == (1, "the buffer is closed")
    assert len(flush(buffer, T0 + 10 * S)) == 1


def test_what_went_out_is_remembered_for_tombstone_s_of_the_callers_time() -> None:
    buffer = MemoryBuffer(BufferConfig(tombstone_s=100))
    buffer.add([span(1), span(2, 1)], T0)
    flush(buffer, T0 + 10 * S)
    buffer.add([span(3, 2), span(2, 1)], T0 + 99 * S)
    (part,) = flush(buffer, T0 + 109 * S)
    assert (part.root_span_id, part.addendum) == (span(1).span_id, True)
    # The root is remembered as long as its addendum, span 2 is not.
    buffer.add([span(4, 1), span(5, 2), span(6, 3)], T0 + 190 * S)
    (part,) = flush(buffer, T0 + 200 * S)
    assert (part.root_span_id, part.addendum) == (span(1).span_id, True)
    assert part.span_ids == (span(4).span_id, span(6).span_id)
    (part,) = flush(buffer, T0 + 250 * S)
    assert (part.root_span_id, part.addendum) == (span(5).span_id, False)
    assert list(buffer.take_due(T0 + 1_000 * S, owner="ada")) == []
    assert len(buffer._remembered) == 0
    assert buffer._remembered.n_bytes == 0


def test_no_tombstones_when_none_are_wanted() -> None:
    buffer = MemoryBuffer(BufferConfig(tombstone_s=0))
    buffer.add([span(1)], T0)
    flush(buffer, T0 + 10 * S)
    buffer.add([span(1)], T0 + 10 * S)
    assert len(flush(buffer, T0 + 20 * S)) == 1


def test_memory_of_what_went_out_is_bounded() -> None:
    buffer = MemoryBuffer(BufferConfig(max_held_bytes=40_000, tombstone_s=3_600))
    for trace in range(1, 200):
        buffer.add([span(1, trace=trace)], T0 + trace)
        flush(buffer, T0 + trace + 10 * S)
    assert buffer._remembered.n_bytes <= 10_000
    assert 20 <= len(buffer._remembered) < 40
    buffer.add([span(2, 1, trace=199), span(2, 1, trace=1)], T0 + 20 * S)
    assert [part.addendum for part in flush(buffer, T0 + 80 * S)] == [True, False]


def test_idle_costs_the_same_whatever_is_held() -> None:
    costs = []
    for n in (10, 10_000):
        buffer = MemoryBuffer()
        buffer.add([span(1, trace=trace) for trace in range(1, n + 1)], T0)
        costs.append(calls(lambda buffer=buffer: list(buffer.take_due(T0 + 5 * S, owner="ada"))))
    assert costs[1] <= costs[0] + 4 * BufferConfig().shards


def test_a_trace_that_stays_open_is_not_read_again_at_each_visit() -> None:
    """A hundred visits with all of it there cost about as much as with nothing there."""
    costs = []
    for n in (20, 5_000):
        buffer = MemoryBuffer(BufferConfig(max_open_s=86_400))
        buffer.add([span(1), *(span(k, 1) for k in range(2, n))], T0)
        now_ns = T0

        def visits(buffer: MemoryBuffer = buffer) -> None:
            nonlocal now_ns
            for _ in range(100):
                buffer.add([span(now_ns, 1)], now_ns)
                now_ns += 9 * S
                assert list(buffer.take_due(now_ns, owner="ada")) == []

        visits()  # reads what was there once
        costs.append(calls(visits))
    assert costs[1] < 1.2 * costs[0]


def test_a_takeover_before_there_was_a_plan_finds_it_at_the_same_time() -> None:
    """The owner died, or is slow, between sealing and planning; what came since waits."""
    buffer = MemoryBuffer(BufferConfig(lease_s=30))
    buffer.add([span(1), span(1), span(5, 4)], T0)
    queues = buffer._oldest_first(None)
    sealed = buffer._seal_next(T0 + 10 * S, "slow", queues)
    assert sealed is not None
    buffer.add([span(2, 1)], T0 + 11 * S)
    (part,) = take(buffer, T0 + 70 * S, "bob")
    assert part.span_ids == (span(1).span_id,)
    assert not buffer._plan(*sealed), "the slow one has lost it"
    assert buffer.acknowledge([part]) == 1
    found = {part.root_span_id: part.addendum for part in flush(buffer, T0 + 71 * S)}
    assert found == {span(5).span_id: False, span(1).span_id: True}
    books = buffer.ledger()
    assert (books.delivered, books.held) == (3, 0)
    assert books.dropped == {"shop": {"duplicate": 1}}


def test_the_names_of_the_room() -> None:
    import afterglow.buffer

    assert afterglow.buffer.BufferedSpan is BufferedSpan
    with pytest.raises(AttributeError, match="no attribute 'NoBuffer'"):
        _ = afterglow.buffer.NoBuffer


def test_what_went_out_of_an_open_trace_does_not_pile_up() -> None:
    """One segment stays open, a hundred others of the trace come and go."""
    buffer = MemoryBuffer(BufferConfig(max_open_s=86_400, timeout_s=86_400))
    buffer.add([span(1, 999)], T0)
    for n in range(100):
        buffer.add([span(2 * n + 2), span(2 * n + 3, 2 * n + 2)], T0 + 10 * n * S)
        assert len(flush(buffer, T0 + (10 * n + 10) * S)) == 1
    (trace,) = buffer._traces.values()
    assert len(trace.entries) < 10
    assert buffer.ledger().held == 1


def test_a_segment_in_many_parts_counts_once() -> None:
    buffer = MemoryBuffer(BufferConfig(max_segment_bytes=1_024))
    buffer.add([span(n, 1, trace=t, payload=bytes(1_000)) for t in (1, 2, 3) for n in (1, 2)], T0)
    pages = buffer.take_due(T0 + 10 * S, owner="ada", max_segments=2)
    assert sum(len(page) for page in pages) == 4
