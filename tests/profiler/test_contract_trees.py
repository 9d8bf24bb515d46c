"""The same contract: parents, failures, runs and the end (test_contract.py has the rest)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from afterglow.analyse.profile import TraceNode
from tests.profiler.conftest import Bench


def shape(nodes: list[TraceNode]) -> Any:
    """Names of the tree, nested."""
    return [(node.span.name, shape(node.children)) for node in nodes]


# --- parents ------------------------------------------------------------------------------------


def test_what_runs_inside_is_a_child(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure("parent") as parent:
        assert parent.model.parent_id is None
        with profiler.measure("child") as child:
            assert child.model.parent_id == parent.model.span_id
        with profiler.measure("second"):
            pass
    with profiler.measure("next"):
        pass
    roots = bench.roots()
    assert shape(roots) == [("parent", [("child", []), ("second", [])]), ("next", [])]
    root = roots[0]
    assert root.span.span_id == parent.model.span_id
    assert root.children[0].span.parent_id == root.span.span_id
    durations = [child.span.duration or 0 for child in root.children]
    assert root.total_children_duration == pytest.approx(sum(durations))
    assert root.self_time == pytest.approx((root.span.duration or 0) - sum(durations))


def test_tasks_are_children_of_what_started_them(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure(lambda args: f"task {args[0]}")
    async def task(number: int) -> None:
        with profiler.measure(f"part {number}"):
            await asyncio.sleep(0)

    async def main() -> None:
        with profiler.measure("batch"):
            await asyncio.gather(*map(task, range(3)))

    asyncio.run(main())
    (batch,) = bench.roots()
    assert sorted(shape(batch.children)) == [
        (f"task {number}", [(f"part {number}", [])]) for number in range(3)
    ]


def test_start_does_not_become_current(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure("block"):
        manual = profiler.start("manual", tags={"version": 2})
        with profiler.measure("inside"):
            pass
    manual.annotate(rows=3)
    with ThreadPoolExecutor(1) as other:
        other.submit(manual.end).result()
    (block,) = bench.roots()
    assert sorted(shape(block.children)) == [("inside", []), ("manual", [])]
    (node,) = (child for child in block.children if child.span.name == "manual")
    assert node.span.tags == {"version": 2, "rows": 3}


# --- failures -----------------------------------------------------------------------------------


def test_an_exception_is_passed_on_and_told(bench: Bench) -> None:
    profiler = bench.profiler()

    @profiler.measure("failing")
    def failing() -> None:
        raise ValueError("no such thing")

    @profiler.measure("failing later")
    async def failing_later() -> None:
        raise KeyError("gone")

    with pytest.raises(ValueError, match="no such thing"):
        failing()
    with pytest.raises(KeyError):
        asyncio.run(failing_later())
    with pytest.raises(KeyboardInterrupt), profiler.measure("stopped", {"keep": 1}) as span:
        span.model.status = "warning"
        raise KeyboardInterrupt
    told = {root.span.name: (root.span.status, root.span.tags) for root in bench.roots()}
    assert told == {
        "failing": ("error", {"error": "no such thing", "error_type": "ValueError"}),
        "failing later": ("error", {"error": "'gone'", "error_type": "KeyError"}),
        "stopped": ("error", {"keep": 1, "error": "", "error_type": "KeyboardInterrupt"}),
    }
    assert bench.stats()["failing"].error_rate == 1.0


def test_any_status_is_kept_and_all_but_ok_count_as_errors(bench: Bench) -> None:
    profiler = bench.profiler()
    for status in ("warning", "ok", "Zeit überschritten", "unset", "error"):
        with profiler.measure("block") as span:
            span.model.status = status
            assert span.model.status == status
        profiler.start("manual").end(status)
    with profiler.measure("block"):
        pass
    back = profiler.start("manual")
    back.model.status = "warning"
    back.end("ok")
    kept = profiler.start("manual")
    kept.model.status = "cancelled"
    kept.end()
    stats = bench.stats()
    assert (stats["block"].count, stats["block"].error_count) == (6, 4)
    assert stats["block"].error_rate == pytest.approx(4 / 6)
    statuses = [root.span.status for root in bench.roots() if root.span.name == "manual"]
    assert statuses == ["warning", "ok", "Zeit überschritten", "unset", "error", "ok", "cancelled"]


# --- tags ---------------------------------------------------------------------------------------


def test_tags_of_all_kinds_are_kept(bench: Bench) -> None:
    profiler = bench.profiler()
    plain = {
        "name": "a tag may be called so",
        "self": "and so",
        "text": "\N{SNOWMAN} \x00 'quoted\"",
        "true": True,
        "none": None,
        "whole": -(2**63),
        "real": 0.1,
        "list": [1, [2, "three"]],
        "dict": {"deep": {"deeper": 1}},
        "": "no name",
    }
    tags = dict(plain)
    with profiler.measure("tagged", tags) as span:
        span.annotate(more=1)
    assert tags == plain, "the caller's own dict is not touched"
    found = bench.root().span.tags
    del plain[""]
    assert found == plain | {"more": 1}


def test_tags_that_cannot_be_written_become_text(bench: Bench) -> None:
    profiler = bench.profiler()

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("not today")

    with profiler.measure("odd", {1: "key", "object": object, "huge": 2**80}) as span:  # type: ignore[dict-item]
        span.annotate(broken=Broken(), half="\ud800", infinite=float("inf"))
    profiler.start("no tags at all", tags="abc").end()  # type: ignore[arg-type]
    odd = bench.roots()[0].span
    assert odd.tags["1"] == "key"
    assert odd.tags["object"] == "<class 'object'>"
    assert str(odd.tags["huge"]) == str(2**80)
    assert "Broken" in odd.tags["broken"]
    assert odd.tags["half"] == "?"


def test_each_span_has_its_own_tags(bench: Bench) -> None:
    profiler = bench.profiler()
    tags = {"shared": 1}

    @profiler.measure("call", tags)
    def call(number: int) -> None:
        pass

    with profiler.measure("first", tags) as first:
        first.annotate(own=1)
    with profiler.measure("second", tags):
        pass
    assert [root.span.tags for root in bench.roots()] == [{"shared": 1, "own": 1}, {"shared": 1}]


# --- runs, namespaces, what a Report sees ------------------------------------------------


def test_a_report_sees_all_that_ended_so_far(bench: Bench) -> None:
    profiler = bench.profiler()
    with profiler.measure("outer"):
        with profiler.measure("inner"):
            pass
        report = bench.report()
        assert list(report.analyze_run("run")) == ["inner"]
        assert shape(report.build_trees("run")) == [("inner", [])]
    assert list(report.analyze_run("run")) == ["outer", "inner"], "in order of start"
    profiler.close()
    assert set(report.analyze_run("run")) == {"outer", "inner"}
    report.close()
    report.close()


def test_a_run_that_is_not_there_is_empty(bench: Bench) -> None:
    profiler = bench.profiler()
    assert bench.report().analyze_run("run") == {}
    profiler.start("one").end()
    report = bench.report()
    assert report.analyze_run("other") == {}
    assert report.build_trees("ru") == []


def test_runs_get_ids_of_their_own(bench: Bench) -> None:
    first, second = bench.profiler(run_id=None), bench.profiler(run_id=None)
    assert first.run_id != second.run_id
    assert len(first.run_id) == 32
    first.start("one").end()
    assert list(bench.stats(first.run_id)) == ["one"]


def test_two_profilers_on_one_file_are_kept_apart(file_bench: Bench) -> None:
    first, second = file_bench.profiler(run_id="A"), file_bench.profiler(run_id="B")
    with first.measure("task a"), second.measure("task b"):
        pass
    assert list(file_bench.stats("A")) == ["task a"]
    assert list(file_bench.stats("B")) == ["task b"]
    # Its parent is in another run: there it is a root.
    assert shape(file_bench.roots("B")) == [("task b", [])]


def test_a_run_can_be_continued_by_another_profiler(file_bench: Bench) -> None:
    first = file_bench.profiler()
    first.start("before").end()
    at_once = file_bench.profiler()
    at_once.start("beside").end()
    first.close()
    file_bench.profiler().start("after").end()
    assert [root.span.name for root in file_bench.roots()] == ["before", "beside", "after"]


def test_namespaces_are_kept_apart(file_bench: Bench) -> None:
    usual, other = file_bench.profiler(), file_bench.profiler(namespace="other")
    usual.start("usual").end()
    with other.measure("of the other"):
        other.start("begun in it").end()

        @other.measure("generated")
        def numbers() -> Iterator[int]:
            yield 1

        assert list(numbers()) == [1]
    assert list(file_bench.report().analyze_run("run")) == ["usual"]
    others = file_bench.report(namespace="other").analyze_run("run")
    assert set(others) == {"of the other", "begun in it", "generated"}
    assert file_bench.report(namespace="none").analyze_run("run") == {}


@pytest.mark.parametrize("buffer_size", [1, 0, -5, 100, 10**9])
def test_any_buffer_size_will_do(bench: Bench, buffer_size: int) -> None:
    profiler = bench.profiler(buffer_size=buffer_size)
    for number in range(250):
        profiler.start(f"span {number}").end()
    assert len(bench.stats()) == 250


def test_what_ends_twice_or_after_close_is_recorded_once_at_most(bench: Bench) -> None:
    profiler = bench.profiler()
    twice = profiler.start("twice")
    twice.end()
    twice.end("error")
    late = profiler.start("late")
    profiler.close()
    late.annotate(harmless=True)
    late.end()
    with profiler.measure("later still") as span:
        span.annotate(harmless=True)
    profiler.flush()
    profiler.close()
    (node,) = bench.roots()
    assert (node.span.name, node.span.status) == ("twice", "ok")
