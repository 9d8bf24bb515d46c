"""With beaver-db and ferret-io themselves: they read what we write, and we what they write.

beaver-db is there from Python 3.13 on only; elsewhere there is nothing to test.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import SettingError
from afterglow.ports import SpanSink
from afterglow.sink.beaver import BeaverSink
from afterglow.store.beaver import is_beaver_file
from afterglow.store.ferret import read_ferret
from afterglow.store.insert import insert_spans
from tests.profiler.conftest import close_beaver
from tests.profiler.test_sinks import batch

if importlib.util.find_spec("beaver") is None or importlib.util.find_spec("ferret") is None:
    pytest.skip("beaver-db and ferret-io need Python 3.13", allow_module_level=True)

import beaver
import ferret

BEAVER_1 = beaver.__version__.startswith("1.")

# ferret gives beaver-db 2 a datetime, which sqlite3 turns into text under protest; closing its
# connections is left to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*datetime adapter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


@pytest.fixture
def opened() -> Iterator[Callable[[str], Any]]:
    """Opens BeaverDBs, and closes them at the end."""
    found: list[Any] = []

    def open_beaver(path: str) -> Any:
        found.append(beaver.BeaverDB(path))
        return found[-1]

    yield open_beaver
    for db in found:
        close_beaver(db)


@pytest.fixture
def ferret_report(
    opened: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Any]:
    """ferret's own Report on a file. With beaver-db 2 ferret 0.3.1 fails to iterate over a log;
    given that one method, all else of it works."""
    if not BEAVER_1:
        from beaver.logs import AsyncBeaverLog

        async def entries(self: Any) -> AsyncIterator[tuple[float, Any]]:
            for entry in await self.range():
                yield entry.timestamp, entry.data

        monkeypatch.setattr(AsyncBeaverLog, "__aiter__", entries, raising=False)
    return lambda path: ferret.Report(opened(str(path)))


def entries_of(db: Any) -> list[Any]:
    """What beaver-db itself finds in the log, in its own order."""
    log = db.log("_ferret_trace")
    return [entry for _, entry in (log if BEAVER_1 else log.range())]


def demo(profiler: Any) -> None:
    """A program, for ferret's Profiler or ours."""

    @profiler.measure(lambda args: f"user:{args[0]}", tags={"kind": "user"})
    def work(user: int) -> None:
        with profiler.measure("part") as span:
            span.annotate(user=user, list=[1, {"a": None}])

    with profiler.measure("all", {"version": "2.0"}):
        work(1)
        work(2)
    with pytest.raises(ValueError, match="on purpose"), profiler.measure("failing"):
        raise ValueError("on purpose")
    profiler.start("manual", tags={"text": "\N{SNOWMAN}"}).end("cancelled")
    profiler.flush()


NAMES = ["all", "user:1", "part", "user:2", "part", "failing", "manual"]


def test_beaver_reads_what_we_write(tmp_path: Path, opened: Callable[[str], Any]) -> None:
    db = opened(str(tmp_path / "new.db"))
    profiler = afterglow.Profiler(db, run_id="run")
    assert profiler.db is db
    demo(profiler)
    found = entries_of(db)
    assert [entry["name"] for entry in found] == NAMES, "in order of start"
    assert found[2]["tags"] == {"user": 1, "list": [1, {"a": None}]}
    assert found[-1]["status"] == "cancelled"
    profiler.close()


def test_ferrets_report_reads_what_we_write(
    tmp_path: Path, ferret_report: Callable[[Path], Any]
) -> None:
    path = tmp_path / "spans.db"
    with afterglow.Tracer(BeaverSink(path), run_id="traced") as tracer, tracer.span("by hand"):
        pass
    profiler = afterglow.Profiler(path, run_id="run")  # by now a BeaverDB
    demo(profiler)
    profiler.close()
    theirs, ours = ferret_report(path), afterglow.Report(path)
    stats = theirs.analyze_run("run")
    assert list(stats) == list(dict.fromkeys(NAMES))
    for name, mine in ours.analyze_run("run").items():
        assert vars(stats[name]) == pytest.approx(vars(mine), nan_ok=False)
    roots = theirs.build_trees("run")
    assert [root.span.name for root in roots] == ["all", "failing", "manual"]
    assert [child.span.name for child in roots[0].children] == ["user:1", "user:2"]
    assert roots[0].children[1].children[0].span.tags["user"] == 2
    assert roots[1].span.tags == {"error": "on purpose", "error_type": "ValueError"}
    assert roots[1].span.status == "error"
    assert list(theirs.analyze_run("traced")) == ["by hand"]


def test_we_read_what_ferret_writes(tmp_path: Path) -> None:
    path = tmp_path / "ferret.db"
    profiler = ferret.Profiler(str(path), run_id="run")
    demo(profiler)
    close_beaver(profiler.db)
    report = afterglow.Report(path)
    assert set(report.analyze_run("run")) == set(NAMES)
    assert report.analyze_run("run")["part"].count == 2
    root = report.build_trees("run")[0]
    assert root.children[0].children[0].span.name == "part"


def test_what_ferret_wrote_is_imported_once(tmp_path: Path) -> None:
    path, database = tmp_path / "ferret.db", tmp_path / "ours.db"
    first = ferret.Profiler(str(path), run_id="run")
    demo(first)
    second = ferret.Profiler(first.db, run_id="other")
    second.start("alone").end()
    second.flush()
    close_beaver(first.db)
    for added in ({"run": 7, "other": 1}, {"run": 0, "other": 0}):
        with read_ferret(path) as file:
            counts = {
                process.run_id: insert_spans(database, file.spans(process.run_id), process)
                for process in file.processes()
            }
        assert counts == added
    with afterglow.open(database) as found:
        assert {run.run_id: (run.spans, run.errors) for run in found.runs()} == {
            "run": (7, 1),
            "other": (1, 0),
        }
        assert {s.name: s.count for s in found.statistics(run="run")} == {
            name: NAMES.count(name) for name in NAMES
        }
        spans = {span.name: span for span in found.spans(run="run")}
    assert spans["user:1"].parent_span_id == spans["all"].span_id
    assert spans["part"].trace_id == spans["all"].trace_id
    assert spans["manual"].status_text == "cancelled"
    assert spans["failing"].status == "error"
    report = afterglow.Report(database)
    assert report.analyze_run("run")["manual"].error_count == 1
    assert [root.span.name for root in report.build_trees("run")] == ["all", "failing", "manual"]


def test_a_new_file_is_made_by_beaver(tmp_path: Path, opened: Callable[[str], Any]) -> None:
    path = tmp_path / "new.db"
    sink: SpanSink = BeaverSink(path)
    assert not path.exists(), "nothing happens before the first write"
    sink.write(batch("one"))
    assert is_beaver_file(path)
    path.unlink()
    for extra in tmp_path.glob("new.db-*"):
        extra.unlink()
    sink.write(batch("after it was deleted"))
    sink.close()
    db = opened(str(path))
    assert [entry["name"] for entry in entries_of(db)] == ["after it was deleted"]
    db.dict("of the program")["key"] = "value"
    assert db.dict("of the program")["key"] == "value"


def test_the_database_may_be_closed_first(tmp_path: Path) -> None:
    db = beaver.BeaverDB(str(tmp_path / "spans.db"))
    profiler = afterglow.Profiler(db, run_id="run")
    profiler.start("before").end()
    close_beaver(db)
    profiler.start("after").end()
    profiler.close()
    assert set(afterglow.Report(tmp_path / "spans.db").analyze_run("run")) == {"before", "after"}


def test_a_database_in_memory(opened: Callable[[str], Any]) -> None:
    db = opened(":memory:")
    if BEAVER_1:
        with pytest.raises(SettingError, match="its own thread"):
            afterglow.Profiler(db)
        return
    profiler = afterglow.Profiler(db, run_id="run")
    demo(profiler)
    assert set(afterglow.Report(db).analyze_run("run")) == set(NAMES)
    profiler.start("half \ud800").end()
    other = afterglow.Profiler(db, run_id="other")
    other.start("of another run").end()
    other.close()
    profiler.close()
    assert len(afterglow.Report(profiler.db).build_trees("run")) == 4
    assert afterglow.Report(db, namespace="other").analyze_run("run") == {}


def test_a_database_in_memory_that_was_closed(opened: Callable[[str], Any]) -> None:
    if BEAVER_1:
        pytest.skip("beaver-db 1 cannot be written in memory")
    db = opened(":memory:")
    profiler = afterglow.Profiler(db)
    db.close()
    profiler.start("lost").end()
    profiler.close()
    assert profiler.ledger()["dropped"] == {"sink_refused": 1}


FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore")
import beaver
from afterglow import Profiler

db = beaver.BeaverDB(sys.argv[1])
profiler = Profiler(db, run_id="run")
profiler.start("before").end()
profiler.flush()
profiler.start("waiting").end()
child = os.fork()
profiler.start("child" if child == 0 else "parent").end()
profiler.close()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_writes_its_own(tmp_path: Path) -> None:
    path = tmp_path / "spans.db"
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stats = afterglow.Report(path).analyze_run("run")
    counts = {name: found.count for name, found in stats.items()}
    assert counts == {"before": 1, "waiting": 1, "child": 1, "parent": 1}
