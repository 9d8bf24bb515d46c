"""Who is whose child: across blocks, threads, executors, tasks and generators."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from afterglow.model.span import Span
from afterglow.record.context import current
from tests.conftest import Recording


def assert_child(child: Span, parent: Span) -> None:
    assert child.parent_span_id == parent.span_id
    assert child.trace_id == parent.trace_id


def test_blocks_nest_and_siblings_do_not(recording: Recording) -> None:
    span = recording.tracer.span
    with span("root"):
        with span("first"), span("inner"):
            pass
        with span("second"):
            pass
    with span("other root"):
        pass
    spans = recording.by_name()
    assert spans["root"].is_root
    assert_child(spans["first"], spans["root"])
    assert_child(spans["inner"], spans["first"])
    assert_child(spans["second"], spans["root"])
    assert spans["other root"].is_root
    assert spans["other root"].trace_id != spans["root"].trace_id
    assert current.get() is None


def test_times_enclose_and_never_go_back(recording: Recording) -> None:
    with recording.tracer.span("outer"), recording.tracer.span("inner"):
        pass
    spans = recording.by_name()
    inner, outer = spans["inner"], spans["outer"]
    assert inner.end_ns is not None and outer.end_ns is not None
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def test_a_started_span_is_a_child_but_not_current(recording: Recording) -> None:
    tracer = recording.tracer
    with tracer.span("root"):
        by_hand = tracer.start_span("by hand")
        with tracer.span("beside"):
            pass
        with tracer.use(by_hand), tracer.span("below"):
            pass
    thread = threading.Thread(target=by_hand.end)
    thread.start()
    thread.join()
    by_hand.end()  # once is enough: the second is ignored
    spans = recording.by_name()
    assert_child(spans["by hand"], spans["root"])
    assert_child(spans["beside"], spans["root"])
    assert_child(spans["below"], spans["by hand"])


def test_with_on_a_started_span_ends_it_without_beginning_again(recording: Recording) -> None:
    tracer = recording.tracer
    started = tracer.start_span("started")
    span_id = started.span_id
    with started, tracer.span("inner"):
        pass
    spans = recording.by_name()
    assert spans["started"].span_id == span_id
    assert_child(spans["inner"], spans["started"])


def test_threads_and_executor_jobs_start_under_their_starter(recording: Recording) -> None:
    tracer = recording.tracer

    def job(name: str) -> None:
        with tracer.span(name):
            pass

    with ThreadPoolExecutor(1) as pool:
        with tracer.span("root"):
            thread = threading.Thread(target=job, args=("in thread",), name="worker")
            thread.start()
            thread.join()
            pool.submit(job, "in pool").result()
        # The pool's thread was started by the job above, but is not its own for ever.
        pool.submit(job, "later").result()
    spans = recording.by_name()
    assert_child(spans["in thread"], spans["root"])
    assert spans["in thread"].thread_name == "worker"
    assert spans["in thread"].thread_id != spans["root"].thread_id
    assert_child(spans["in pool"], spans["root"])
    assert spans["later"].is_root


def test_carry_takes_the_span_along(recording: Recording) -> None:
    tracer = recording.tracer

    def job() -> None:
        with tracer.span("job"):
            pass

    with tracer.span("root"):
        carried = tracer.carry(job)
    contextvars.Context().run(carried)
    spans = recording.by_name()
    assert_child(spans["job"], spans["root"])


def test_tasks_each_have_their_own_parent_and_name(recording: Recording) -> None:
    tracer = recording.tracer

    async def child(number: int) -> None:
        async with tracer.span(f"task {number}"):
            await asyncio.sleep(0)
            with tracer.span(f"inner {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        with tracer.span("root"):
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(child(number), name=f"worker-{number}")

    asyncio.run(main())
    spans = recording.by_name()
    for number in range(50):
        task = spans[f"task {number}"]
        assert_child(task, spans["root"])
        assert_child(spans[f"inner {number}"], task)
        assert task.task_name == f"worker-{number}"
    assert spans["root"].task_name == "Task-1" or spans["root"].task_name.startswith("Task-")


def test_to_thread_keeps_the_parent_and_tells_the_thread(recording: Recording) -> None:
    tracer = recording.tracer

    def blocking() -> None:
        with tracer.span("blocking"):
            pass

    async def main() -> None:
        with tracer.span("root"):
            await asyncio.to_thread(blocking)

    asyncio.run(main())
    spans = recording.by_name()
    assert_child(spans["blocking"], spans["root"])
    assert spans["blocking"].thread_id != spans["root"].thread_id
    assert spans["blocking"].task_name == ""


def test_a_generator_gives_its_consumer_its_own_context_back(recording: Recording) -> None:
    tracer = recording.tracer

    @tracer.wrap
    def numbers() -> Iterator[int]:
        for number in range(3):
            with tracer.span(f"made {number}"):
                pass
            yield number

    with tracer.span("consumer"):
        for number in numbers():
            with tracer.span(f"used {number}"):
                pass
    spans = recording.by_name()
    generator = spans["test_a_generator_gives_its_consumer_its_own_context_back.<locals>.numbers"]
    assert_child(generator, spans["consumer"])
    for number in range(3):
        assert_child(spans[f"made {number}"], generator)
        assert_child(spans[f"used {number}"], spans["consumer"])


def test_a_generator_closed_elsewhere_ends_quietly(recording: Recording) -> None:
    tracer = recording.tracer
    closed = []

    @tracer.wrap("numbers")
    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    with tracer.span("root"):
        generator = numbers()
        assert next(generator) == 1
    contextvars.Context().run(generator.close)
    assert closed
    spans = recording.by_name()
    assert_child(spans["numbers"], spans["root"])
    assert spans["numbers"].status == "unset"


def test_a_generator_is_sent_thrown_into_and_returns(recording: Recording) -> None:
    @recording.tracer.wrap("echo")
    def echo() -> Iterator[object]:
        got: object = None
        while got != "stop":
            try:
                got = yield got
            except KeyError as error:
                got = error
        return "done"

    generator = echo()
    next(generator)
    assert generator.send(5) == 5  # type: ignore[attr-defined]
    error = KeyError("x")
    assert generator.throw(error) is error  # type: ignore[attr-defined]
    try:
        generator.send("stop")  # type: ignore[attr-defined]
    except StopIteration as stop:
        assert stop.value == "done"
    assert recording.one().name == "echo"


def test_async_generators_do_the_same(recording: Recording) -> None:
    tracer = recording.tracer

    @tracer.wrap("numbers")
    async def numbers() -> AsyncIterator[int]:
        for number in range(2):
            with tracer.span(f"made {number}"):
                await asyncio.sleep(0)
            yield number

    async def main() -> None:
        with tracer.span("consumer"):
            async for number in numbers():
                with tracer.span(f"used {number}"):
                    pass

    async def left_open() -> None:
        async for _ in numbers():
            break  # the loop's shutdown closes it, in a task of its own

    asyncio.run(main())
    spans = recording.by_name()
    for number in range(2):
        assert_child(spans[f"made {number}"], spans["numbers"])
        assert_child(spans[f"used {number}"], spans["consumer"])
    asyncio.run(left_open())


def test_two_tracers_nest_in_one_trace(make_recording) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = make_recording(), make_recording()
    with ours.tracer.span("outer"), theirs.tracer.span("inner"):
        pass
    assert_child(theirs.one(), ours.one())


def test_leaving_blocks_in_the_wrong_order_raises_nothing(recording: Recording) -> None:
    tracer = recording.tracer

    def crossed() -> None:
        first, second = tracer.span("first"), tracer.span("second")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        second.__exit__(None, None, None)

    contextvars.Context().run(crossed)
    assert sorted(recording.by_name()) == ["first", "second"]
