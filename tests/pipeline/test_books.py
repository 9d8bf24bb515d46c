"""Recorded = written + dropped (by reason), exactly, whatever the load and the sink."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.ports import SpanBatch
from afterglow.testing import ListSink

THREADS, EACH = 8, 250


class SlowSink(ListSink):
    """Gives the other threads a turn in the middle of each write."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Event()

    def write(self, batch: SpanBatch) -> None:
        self._turn.wait(0.001)
        super().write(batch)


@pytest.fixture
def fast_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def overload(overflow: Any) -> None:
    """8 threads against a queue of 64 and a slow sink."""
    sink = SlowSink()
    tracer = afterglow.Tracer(sink, max_queue_size=64, batch_size=16, overflow=overflow)
    gate = threading.Barrier(THREADS)

    def work() -> None:
        gate.wait()
        for number in range(EACH):
            with tracer.span("work", number=number):
                pass

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close()
    books = tracer.ledger()
    seen = [span.span_id for span in sink.spans]
    assert books["recorded"] == THREADS * EACH
    assert books["written"] == len(seen) == len(set(seen))
    assert books["in_flight"] == 0
    assert books["written"] + sum(books["dropped"].values()) == books["recorded"]
    if overflow == "block":
        assert books["dropped"] == {}
    else:
        assert books["dropped"], "the queue was never full: the test tests nothing"


@pytest.mark.usefixtures("fast_switching")
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_an_overload_loses_nothing_uncounted(overflow: str) -> None:
    for _ in range(4):
        overload(overflow)


@pytest.mark.soak
@pytest.mark.usefixtures("fast_switching")
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_hundred_overloads_lose_nothing_uncounted(overflow: str) -> None:
    for _ in range(100):
        overload(overflow)


def test_a_thousand_tasks_that_finish_in_one_turn(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    tracer = afterglow.Tracer(path)

    async def work(gate: asyncio.Event, number: int) -> None:
        with tracer.span("work", number=number):
            await gate.wait()

    async def main() -> None:
        gate = asyncio.Event()
        with tracer.span("root"):
            tasks = [asyncio.create_task(work(gate, number)) for number in range(1_000)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    tracer.close()
    with afterglow.open(path) as database:
        (root,) = database.spans(name="root")
        spans = list(database.spans(name="work"))
        assert {span.attributes["number"] for span in spans} == set(range(1_000))
        assert {span.parent_span_id for span in spans} == {root.span_id}
        assert len({span.task_name for span in spans}) == 1_000
        assert database.ledger()["written"] == 1_001
