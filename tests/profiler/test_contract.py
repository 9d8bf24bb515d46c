"""What a program written for ferret-io 0.3.1 relies on, wherever the spans go."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from afterglow.analyse.profile import TraceNode
from tests.profiler.conftest import Bench


def shape(nodes: list[TraceNode]) -> Any:
    """Names of the tree, nested."""
    return [(node.span.name, shape(node.children)) for node in nodes]


# --- with, async with, decorators -----------------------------------------------------------


def test_a_block_is_measured(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure("work"):
        pass
    stats = bench.stats()
    assert list(stats) == ["work"]
    work = stats["work"]
    assert (work.name, work.count, work.error_count, work.error_rate) == ("work", 1, 0, 0.0)
    assert work.min_duration == work.max_duration == work.avg_duration == work.total_duration >= 0


def test_a_decorated_function_is_measured_at_each_call(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure("add", tags={"kind": "sum"})
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert (add(1), add(1, b=5)) == (3, 6)
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert bench.stats()["add"].count == 2
    assert [root.span.tags for root in bench.roots()] == [{"kind": "sum"}, {"kind": "sum"}]


def test_a_coroutine_is_measured_until_it_is_done(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure("inner")
    async def inner() -> str:
        await asyncio.sleep(0)
        return "done"

    @profiler.measure("outer")
    async def outer() -> str:
        return await inner()

    async def main() -> str:
        async with profiler.measure("main"):
            return await outer()

    assert inspect.iscoroutinefunction(inner)
    assert asyncio.run(main()) == "done"
    assert shape(bench.roots()) == [("main", [("outer", [("inner", [])])])]


def test_generators_are_measured_until_they_are_done(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure(lambda args: f"count to {args[0]}")
    def count(limit: int) -> Iterator[int]:
        for number in range(limit):
            with profiler.measure("step"):
                yield number

    @profiler.measure("stream", tags={"kind": "async"})
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> list[int]:
        return [number async for number in stream()]

    numbers = count(2)
    assert next(numbers) == 0
    with profiler.measure("the consumer's own"):
        pass
    assert list(numbers) == [1]
    assert asyncio.run(main()) == [1, 2]
    tree = shape(bench.roots())
    assert ("count to 2", [("step", []), ("step", [])]) in tree
    assert ("the consumer's own", []) in tree
    assert ("stream", []) in tree


def test_a_failing_generator_is_an_error(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure("numbers")
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        list(numbers())
    span = bench.root().span
    assert span.status == "error"
    assert span.tags == {"error": "no more", "error_type": "LookupError"}


def test_methods_of_all_kinds_can_be_decorated(bench: Bench) -> None:
    profiler = bench.profiler()

    class Service:
        @profiler.measure(lambda args: f"plain:{type(args[0]).__name__}")
        def plain(self) -> str:
            return "plain"

        @profiler.measure("of class")
        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        @classmethod
        @profiler.measure("of class, inside")
        def of_class_inside(cls) -> str:
            return cls.__name__

        @profiler.measure("static")
        @staticmethod
        def static(value: int) -> int:
            return value

    service = Service()
    assert (service.plain(), service.of_class(), Service.of_class_inside(), service.static(3)) == (
        "plain",
        "Service",
        "Service",
        3,
    )
    assert set(bench.stats()) == {"plain:Service", "of class", "of class, inside", "static"}


def test_one_measurement_may_be_used_again_and_at_once(bench: Bench) -> None:
    profiler = bench.profiler()
    measurement = profiler.measure("again")
    with measurement as outer:
        outer.annotate(depth=1)
        with measurement as inner:
            inner.annotate(depth=2)

    async def one(entered: asyncio.Event, may_leave: asyncio.Event, number: int) -> None:
        with measurement as span:
            entered.set()
            await may_leave.wait()
            span.annotate(number=number)

    async def main() -> None:
        entered, may_leave = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(one(asyncio.Event(), entered, 1))
        second = asyncio.create_task(one(entered, may_leave, 2))
        await first  # the one that entered first leaves first
        may_leave.set()
        await second

    asyncio.run(main())
    tags = [node.span.tags for node in bench.roots()]
    assert shape(bench.roots()) == [("again", [("again", [])]), ("again", []), ("again", [])]
    assert tags == [{"depth": 1}, {"number": 1}, {"number": 2}]


def test_a_decorator_without_a_name_says_how_it_is_written(bench: Bench) -> None:
    profiler = bench.profiler()
    with pytest.raises(TypeError, match="measure"):
        profiler.measure(len)(5)  # type: ignore[type-var]


# --- names ------------------------------------------------------------------------------------


def test_a_name_function_of_a_decorator_gets_the_positional_arguments(bench: Bench) -> None:
    profiler = bench.profiler()
    seen: list[Any] = []

    def name(*got: Any) -> str:
        seen.append(got)
        return f"user_{got[0][0]}"

    @profiler.measure(name)
    def process(user: int, *, fast: bool = False) -> None:
        pass

    @profiler.measure(lambda args: f"async_{args[0]}")
    async def process_later(user: int) -> None:
        pass

    process(42, fast=True)
    asyncio.run(process_later(43))
    assert seen == [((42,),)]
    assert set(bench.stats()) == {"user_42", "async_43"}


def test_a_name_function_of_a_with_gets_no_arguments(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure(lambda args, kwargs: f"{args!r} {kwargs!r}"):
        pass
    assert list(bench.stats()) == ["() {}"]


def test_a_name_function_that_fails_breaks_nothing(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure(lambda args: args[7])
    def plain() -> str:
        return "plain"

    @profiler.measure(lambda args, kwargs: "takes too much")
    async def later() -> str:
        return "later"

    @profiler.measure(lambda args: 1 / 0)
    def many() -> Iterator[str]:
        yield "many"

    with profiler.measure(lambda args: "takes too little"):
        assert (plain(), asyncio.run(later()), list(many())) == ("plain", "later", ["many"])
    assert bench.stats()["unknown_dynamic_span"].count == 4
    assert len(bench.stats()) == 1


def test_names_that_are_no_text_become_text(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure(42):  # type: ignore[arg-type]
        pass
    with profiler.measure(lambda args, kwargs: None):  # type: ignore[arg-type,return-value]
        pass
    profiler.start("half a \ud800 character").end()
    assert set(bench.stats()) == {"42", "None", "half a ? character"}
