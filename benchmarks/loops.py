"""What a child does in an event loop: 1,000 tasks, and the gap they leave in it."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.subjects import Subject


def tasks(subject: Subject, n: int) -> dict[str, Any]:
    """`n` tasks of one span each with one await in it; time by task, tasks themselves included."""
    span = subject.span

    async def one() -> None:
        with span():
            await asyncio.sleep(0)

    async def main() -> float:
        before = perf_counter_ns()
        await asyncio.gather(*[one() for _ in range(n)])
        return (perf_counter_ns() - before) / n

    return {"ns": asyncio.run(main())}


def gap(subject: Subject, n: int) -> dict[str, Any]:
    """The longest time between two turns of a loop in which `n` tasks end their spans at once."""
    span = subject.span

    async def main() -> int:
        go = asyncio.Event()

        async def one() -> None:
            with span():
                await go.wait()

        waiting = [asyncio.create_task(one()) for _ in range(n)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        longest, last = 0, perf_counter_ns()
        go.set()
        while not all(task.done() for task in waiting[-1:]):
            await asyncio.sleep(0)
            now = perf_counter_ns()
            longest, last = max(longest, now - last), now
        await asyncio.gather(*waiting)
        return longest

    return {"ns": asyncio.run(main())}
