"""What a type checker makes of the public names. Never run: `make check` runs mypy over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import afterglow
from afterglow.keep.snapshots import Snapshot
from afterglow.ledger import Ledger
from afterglow.model.run import Run
from afterglow.model.statistics import NameStatistics
from afterglow.model.tree import SpanNode

tracer = afterglow.Tracer("typing.db", max_queue_size=64, overflow="block")
assert_type(tracer.run_id, str)
assert_type(tracer.ledger(), Ledger)
assert_type(tracer.ledger()["dropped"], dict[str, int])
assert_type(tracer.flush(), bool)
assert_type(tracer.current_span, afterglow.Span | None)

with tracer.span("work", user=42) as span:
    assert_type(span, afterglow.Span)
    span.set(rows=3)

started = tracer.start_span("by hand", user=42)
assert_type(started, afterglow.Span)
started.error(ValueError("no"))
started.end()


@tracer.wrap
def plain(order: int) -> str:
    return str(order)


@tracer.wrap("named", kind="job")
async def coroutine(order: int) -> str:
    return str(order)


@tracer.wrap("generator")
def generator(order: int) -> Iterator[int]:
    yield order


@tracer.wrap()
async def async_generator(order: int) -> AsyncIterator[int]:
    yield order


async def use() -> None:
    assert_type(plain(1), str)
    assert_type(await coroutine(1), str)
    assert_type(generator(1), Iterator[int])
    assert_type(async_generator(1), AsyncIterator[int])
    async with tracer.span("work") as span:
        assert_type(span, afterglow.Span)


with afterglow.open("typing.db") as database:
    assert_type(database.runs(), list[Run])
    assert_type(database.spans(run="latest", limit=3), Iterator[afterglow.FinishedSpan])
    assert_type(database.statistics(), list[NameStatistics])
    assert_type(database.traces(limit=1), Iterator[SpanNode])
    assert_type(database.ledger(), Ledger)

store = afterglow.TraceStore("typing.db", profile=afterglow.Profile(name="p", kinds={}))
assert_type(store.store({"any": ["JSON"]}, kind="semantic", tags=["t"], intensity="0.5"), str)
assert_type(store.get("id"), afterglow.Entry | None)
assert_type(store.all(limit=3), list[afterglow.Entry])
assert_type(store.ranked(["id"], at=0), list[afterglow.Entry])
assert_type(store.walk_associations("id")[0].path, tuple[str, ...])
assert_type(store.reinforce("id").strength, float | None)
assert_type(store.record_coactivation("a", "b").linked, bool)
assert_type(store.decay_cycle(ticks=None).pruned, int)
assert_type(store.enforce_quota(policy="lru"), list[str])
assert_type(store.flush(), afterglow.FlushReport)
assert_type(store.counters(), dict[str, int])
with store as opened:
    assert_type(opened, afterglow.TraceStore)
    assert_type(opened.recall("a", limit=3, peek=True), list[afterglow.Entry])
    assert_type(opened.record_errors(), afterglow.ErrorRecorder)
    assert_type(opened.snapshot(), Snapshot)
    assert_type(opened.restore(force=True), Snapshot)
    assert_type(opened.list_snapshots(), list[Snapshot])
