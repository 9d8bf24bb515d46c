"""Report: what it takes, and the rules of its trees."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import afterglow
from afterglow.analyse.profile import aggregated, trees
from afterglow.errors import NotAStoreError, SettingError, StoreError
from afterglow.model.profile import ProfileSpan
from tests.profiler.conftest import make_beaver_file


def span(
    span_id: str, parent_id: str | None = None, start: float = 0.0, duration: float | None = 1.0
) -> ProfileSpan:
    return ProfileSpan(
        span_id=span_id,
        parent_id=parent_id,
        run_id="run",
        name=f"span {span_id}",
        start_time=start,
        end_time=None if duration is None else start + duration,
        duration=duration,
    )


def test_children_and_roots_are_in_order_of_start_whatever_comes_first() -> None:
    found = trees([span("c", "a", 3), span("b", "a", 2), span("r", None, 5), span("a", None, 1)])
    assert [node.span.span_id for node in found] == ["a", "r"]
    assert [node.span.span_id for node in found[0].children] == ["b", "c"]


def test_self_time_is_never_below_nothing() -> None:
    (root,) = trees([span("a", None, 0, 5), span("b", "a", 1, 3), span("c", "a", 1, 3)])
    assert root.total_children_duration == 6
    assert root.self_time == 0
    assert root.children[0].self_time == 3


def test_a_circle_of_parents_comes_to_an_end() -> None:
    circle = [span("a", "c", 1), span("b", "a", 2), span("c", "b", 3)]
    found = trees([*circle, span("own", "own", 4), span("d", "c", 5)])
    assert [node.span.span_id for node in found] == ["a", "own"]
    assert found[0].children[0].children[0].children[0].span.span_id == "d"
    assert found[1].children == []


def test_a_missing_or_unfinished_parent_makes_a_root() -> None:
    found = trees([span("a", "gone", 1), span("b", "open", 2), span("open", None, 0, None)])
    assert [node.span.span_id for node in found] == ["a", "b"]
    assert set(aggregated([span("open", None, 0, None)])) == set()


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    (root,) = trees([span(str(n), str(n - 1) if n else None, n) for n in range(5_000)])
    assert repr(root).startswith("TraceNode('span 0'")


def test_statistics_are_those_of_the_finished_spans() -> None:
    failed = span("c", None, 2, 3.0)
    failed.status = "warning"
    for each in (spans := [span("a"), span("b", None, 1, 2.0), failed]):
        each.name = "same"
    stats = aggregated(spans)["same"]
    assert (stats.count, stats.total_duration, stats.avg_duration) == (3, 6.0, 2.0)
    assert (stats.min_duration, stats.max_duration) == (1.0, 3.0)
    assert (stats.error_count, stats.error_rate) == (1, pytest.approx(1 / 3))


def test_a_report_takes_a_path_in_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profiler = afterglow.Profiler("spans.db", run_id="run")
    profiler.start("one").end()
    for db in ("spans.db", tmp_path / "spans.db", str(tmp_path / "spans.db"), profiler.db):
        assert list(afterglow.Report(db).analyze_run("run")) == ["one"]
    assert os.fspath(profiler.db) == str(tmp_path / "spans.db")
    profiler.db.close()
    profiler.start("two").end()
    assert len(afterglow.Report("spans.db").analyze_run("run")) == 2
    profiler.close()


def test_a_tracer_and_a_profiler_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "spans.db"
    with afterglow.Tracer(path, run_id="run") as tracer:
        with tracer.span("by hand", rows=1):
            pass
        with pytest.raises(ValueError), tracer.span("failing", rows=2):
            raise ValueError("why")
    roots = {root.span.name: root.span for root in afterglow.Report(path).build_trees("run")}
    assert roots["by hand"].tags == {"rows": 1}
    assert roots["failing"].status == "error"
    assert roots["failing"].tags == {"rows": 2, "error": "why", "error_type": "ValueError"}
    with afterglow.open(path) as database:
        assert [found.name for found in database.spans(run="run", name="by hand")] == ["by hand"]


@pytest.mark.parametrize("db", ["", None, 5, b"bytes"])
def test_what_is_no_database_is_refused_at_once(db: object) -> None:
    with pytest.raises(SettingError, match="db_path"):
        afterglow.Report(db)
    with pytest.raises(SettingError, match="db_path"):
        afterglow.Profiler(db)


def test_a_profiler_that_nobody_holds_is_flushed_too(tmp_path: Path) -> None:
    path = make_beaver_file(tmp_path / "spans.db")
    afterglow.Profiler(path, run_id="run").start("one").end()
    gc.collect()
    assert list(afterglow.Report(path).analyze_run("run")) == ["one"]


def test_a_report_on_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no\.db"):
        afterglow.Report(tmp_path / "no.db").analyze_run("run")
    (tmp_path / "text.db").write_text("no database at all, but long enough to look into" * 99)
    with pytest.raises(NotAStoreError, match=r"text\.db"):
        afterglow.Report(tmp_path / "text.db").analyze_run("run")
    assert afterglow.Report(":memory:").analyze_run("run") == {}


PROGRAM = """
import sys
from afterglow import Profiler

profiler = Profiler(db_path=sys.argv[1], run_id="demo")

@profiler.measure(lambda args: f"user:{args[0]}")
def work(user):
    with profiler.measure("part") as span:
        span.annotate(user=user)

for user in range(300):
    work(user)
"""


def test_what_a_program_recorded_is_there_when_it_has_ended(tmp_path: Path) -> None:
    """Without flush() or close()."""
    path = tmp_path / "spans.db"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    stats = afterglow.Report(path).analyze_run("demo")
    assert stats["part"].count == 300
    assert len(stats) == 301
