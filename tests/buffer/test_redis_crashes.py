"""Processes that die: at every step that they make with Redis, and by a real kill -9."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from afterglow.buffer import RedisBuffer
from afterglow.model.segment import BufferedSpan
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.buffer.stream import CONFIG, LATER_NS, NOW_NS, Delivery, batches, open_buffer

S = 10**9


class Died(Exception):
    """The process ended here."""


def die_at(buffer: RedisBuffer, step: int, after: bool) -> None:
    """Let a buffer die at its n-th round of commands, before it or right after it."""
    router: Any = buffer._parts.router
    run: Callable[..., Any] = router.run
    steps = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > step or (steps == step and not after):
            raise Died
        found = run(*args, **kwargs)
        if steps == step:
            raise Died
        return found

    router.run = dying


def flush_once(buffer: RedisBuffer, delivery: Delivery, now_ns: int, owner: str) -> None:
    for page in buffer.take_due(now_ns, owner=owner, max_bytes=50_000):
        delivery.write(page)
        buffer.acknowledge(page)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_flusher_dies_at_every_step(redis_single: SingleRedis, after: bool) -> None:
    given = batches(20)
    step = 0
    while True:
        step += 1
        redis_single.flush_all()
        delivery = Delivery(given)
        buffer = open_buffer(redis_single.url)
        for batch in given:
            buffer.add(batch, NOW_NS)
        dying = open_buffer(redis_single.url)
        die_at(dying, step, after)
        try:
            flush_once(dying, delivery, LATER_NS, "first")
        except Died:
            died = True
        else:
            died = False
        delivery.flush(buffer, LATER_NS + 40 * S, "second")
        delivery.check(buffer, [redis_single])
        buffer.close()
        dying.close()
        if not died:
            break
    assert step > 8, "there are steps to die at"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_dies_at_every_step_and_its_batch_comes_again(
    redis_single: SingleRedis, after: bool
) -> None:
    given = batches(21)
    for step in (1, 2, 3):
        redis_single.flush_all()
        delivery = Delivery(given)
        buffer = open_buffer(redis_single.url)
        for batch in given:
            dying = open_buffer(redis_single.url)
            die_at(dying, step, after)
            try:
                dying.add(batch, NOW_NS)
            except Died:
                buffer.add(batch, NOW_NS)
            dying.close()
        delivery.flush(buffer)
        delivery.check(buffer, [redis_single])
        buffer.close()


def test_a_stale_owner_changes_nothing_after_a_takeover(redis_cluster: RedisCluster) -> None:
    given = batches(22)
    delivery = Delivery(given)
    stale = open_buffer(redis_cluster.url)
    for batch in given:
        stale.add(batch, NOW_NS)
    old = list(stale.take_due(LATER_NS, owner="stale", max_bytes=50_000))
    assert stale.acknowledge(old[0]) == len(old[0])
    delivery.write(old[0])
    new = open_buffer(redis_cluster.url)
    after = LATER_NS + round(CONFIG.lease_s * S)
    pages = list(new.take_due(after, owner="new", max_bytes=50_000))
    books = new.ledger()
    for page in old[1:]:
        assert stale.acknowledge(page) == 0
        stale.release(page)
    assert new.ledger() == books
    for page in pages:
        delivery.write(page)
        assert new.acknowledge(page) == len(page)
    again = {part.message_id for page in pages for part in page}
    assert again == {part.message_id for page in old[1:] for part in page}
    delivery.check(new, redis_cluster.masters())
    stale.close()
    new.close()


def test_what_is_released_comes_at_once_and_the_same(redis_single: SingleRedis) -> None:
    given = batches(23)
    delivery = Delivery(given)
    buffer = open_buffer(redis_single.url)
    for batch in given:
        buffer.add(batch, NOW_NS)
    first = [part for page in buffer.take_due(LATER_NS, owner="a") for part in page]
    assert list(buffer.take_due(LATER_NS, owner="b")) == []
    buffer.release(first)
    second = [part for page in buffer.take_due(LATER_NS, owner="b") for part in page]
    assert {p.message_id for p in first} == {p.message_id for p in second}
    delivery.write(second)
    assert buffer.acknowledge(second) == len(second)
    delivery.check(buffer, [redis_single])
    buffer.close()


CHILD = """
import sys
from tests.buffer.stream import LATER_NS, NOW_NS, batches, open_buffer

buffer = open_buffer(sys.argv[2])
print("ready", flush=True)
if sys.argv[1] == "worker":
    while True:
        for number, batch in enumerate(batches(24)):
            assert buffer.add(batch, NOW_NS).refused == 0
            print(number, flush=True)
else:
    for page in buffer.take_due(LATER_NS, owner="child", max_bytes=20_000):
        for part in page:
            print(part.message_id, flush=True)
        buffer.acknowledge(page)
"""


def killed_after(lines: int, *words: str) -> list[str]:
    """Run a child until it has said so many lines, kill it with -9, and give what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().strip() for _ in range(lines)]
        child.kill()
        said += child.stdout.read().split()
    return said


def test_a_worker_is_killed(redis_cluster: RedisCluster) -> None:
    given = batches(24)
    said = killed_after(4, "worker", redis_cluster.url)
    buffer = open_buffer(redis_cluster.url)
    accepted = len(said) - 1
    assert buffer.ledger().ingested >= 60 * min(accepted, len(given) - 1)
    delivery = Delivery(given)
    for batch in given:  # the sender of the dead worker's batches sends them again
        assert buffer.add(batch, NOW_NS).refused == 0
    delivery.flush(buffer)
    delivery.check(buffer, redis_cluster.masters())
    buffer.close()


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_a_flusher_is_killed(redis_cluster: RedisCluster, lines: int) -> None:
    given = batches(25)
    buffer = open_buffer(redis_cluster.url)
    for batch in given:
        buffer.add(batch, NOW_NS)
    said = killed_after(lines, "flusher", redis_cluster.url)[1:]
    books = buffer.ledger()
    assert books.balanced
    again = Delivery(given)
    again.flush(buffer, LATER_NS + 31 * S)
    # What the dead one had acknowledged does not come again, all else does, with the same ids.
    fresh = {part.message_id for part in again.parts.values()}
    came = sum(len(part.span_ids) for part in again.parts.values())
    assert came + books.delivered == len(again.spans)
    reference = reference_ids(given)
    assert set(said) | fresh == reference
    buffer.close()


def reference_ids(given: Sequence[Sequence[BufferedSpan]]) -> set[str]:
    """The ids that a memory buffer gives the same spans."""
    from afterglow.buffer import MemoryBuffer

    memory = MemoryBuffer(msgspec.structs.replace(CONFIG))
    for batch in given:
        memory.add(batch, NOW_NS)
    return {part.message_id for page in memory.take_due(LATER_NS, owner="m") for part in page}


@pytest.mark.parametrize(("first", "then"), [(0, 3), (3, 0), (2, 3), (1, 0)])
def test_a_batch_refused_half_way_and_repeated_in_another_phase_leaves_nothing(
    redis_single: SingleRedis, first: int, then: int
) -> None:
    """The chunks of the first try are in a layout that no entry speaks of."""
    given = batches(24)
    delivery = Delivery(given)
    buffer = open_buffer(redis_single.url, rollout_phase=then, inline_bytes=0)
    for batch in given:
        dying = open_buffer(redis_single.url, rollout_phase=first, inline_bytes=0)
        die_at(dying, 1, after=True)
        with pytest.raises(Died):
            dying.add(batch, NOW_NS)
        dying.close()
        buffer.add(batch, NOW_NS)
    delivery.flush(buffer)
    delivery.check(buffer, [redis_single])
    buffer.close()
