"""A trace that stays open long is looked at often, and each look reads what is new."""

from __future__ import annotations

import random
from typing import Any

import pytest

from afterglow.buffer import sealing
from afterglow.model.segment import SegmentPart
from scripts.redis_cluster import SingleRedis
from tests.buffer.stream import NOW_NS, Delivery, open_buffer, trace

S = 10**9
ROUNDS = 60


@pytest.mark.parametrize("inline_entries", [1_000, 0], ids=["inline", "spread"])
def test_the_cost_of_an_open_trace_is_linear(
    redis_single: SingleRedis, monkeypatch: pytest.MonkeyPatch, inline_entries: int
) -> None:
    read = 0
    parse = sealing.parse

    def counting(member: bytes) -> Any:
        nonlocal read
        read += 1
        return parse(member)

    monkeypatch.setattr(sealing, "parse", counting)
    spans = trace(random.Random(40), 10 * ROUNDS)
    buffer = open_buffer(redis_single.url, max_open_s=2_000.0, inline_entries=inline_entries)
    delivery = Delivery([spans])
    now_ns = NOW_NS
    looks = 0
    for at in range(ROUNDS):
        batch = spans[10 * at : 10 * at + 10]
        buffer.add(batch, now_ns)
        buffer.add(batch[:3], now_ns)  # repeats wait for what they repeat
        now_ns += 9 * S
        before = read
        assert list(buffer.take_due(now_ns, owner="a")) == []
        looks += read > before
    assert looks > ROUNDS // 3
    delivery.flush(buffer, now_ns + 20 * S)
    delivery.check(buffer, [redis_single])
    assert buffer.ledger().dropped["shop"]["duplicate"] == 3 * ROUNDS
    # Each entry when it was new, and once more when all of it went out.
    assert read <= 2 * 2 * ROUNDS + looks
    buffer.close()


def test_another_flusher_that_settles_makes_what_was_kept_void(redis_single: SingleRedis) -> None:
    """A kept tree is of a list that is gone: nothing of it may come out again."""
    spans = trace(random.Random(41), 60)
    one, other = open_buffer(redis_single.url), open_buffer(redis_single.url)
    delivery = Delivery([spans])
    one.add(spans[:20], NOW_NS)
    one.add(spans[20:30], NOW_NS + 9 * S)
    assert list(one.take_due(NOW_NS + 11 * S, owner="one")) == []
    delivery.flush(other, NOW_NS + 30 * S)
    one.add(spans[30:], NOW_NS + 30 * S)
    pages: list[list[SegmentPart]] = []
    for page in one.take_due(NOW_NS + 41 * S, owner="one"):
        pages.append(page)
        delivery.write(page)
        assert one.acknowledge(page) == len(page)
    assert all(part.addendum for page in pages for part in page)
    delivery.check(one, [redis_single])
    one.close()
    other.close()
