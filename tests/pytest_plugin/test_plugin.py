"""`pytest --afterglow`, as its user runs it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import afterglow
from afterglow.model.span import Span

TESTS = """
import afterglow, pytest, sys, warnings

def test_passes():
    pass

@pytest.mark.parametrize("n", [1, 2])
def test_each(n):
    assert n

def test_fails():
    assert False

def test_skips():
    pytest.skip("no tea")

@pytest.mark.xfail
def test_known():
    assert False

@pytest.fixture
def broken():
    raise ValueError("no tea")

def test_setup(broken):
    pass
"""


def run(folder: Path, *arguments: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (folder / "test_shop.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir", ".", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def recorded(path: Path) -> list[Span]:
    with afterglow.open(path) as database:
        return list(database.spans())


def roots(spans: list[Span]) -> dict[str, Span]:
    return {span.name.partition("::")[2]: span for span in spans if not span.parent_span_id}


def test_a_trace_for_each_test(tmp_path: Path) -> None:
    done = run(tmp_path, "--afterglow")
    assert done.returncode == 1
    assert "2 failed" not in done.stdout and "1 failed, 3 passed, 1 skipped" in done.stdout
    assert "7 tests recorded: afterglow report afterglow.db --tree" in done.stdout
    spans = recorded(tmp_path / "afterglow.db")
    tests = roots(spans)
    assert {name: span.attributes["pytest.outcome"] for name, span in tests.items()} == {
        "test_passes": "passed",
        "test_each[1]": "passed",
        "test_each[2]": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_known": "xfailed",
        "test_setup": "error",
    }
    assert len({span.trace_id for span in tests.values()}) == 7
    failed = {name for name, span in tests.items() if span.status == "error"}
    assert failed == {"test_fails", "test_setup"}
    each = tests["test_each[1]"]
    assert each.attributes["pytest.nodeid"] == "test_shop.py::test_each[1]"
    assert each.attributes["pytest.markers"] == ["parametrize"]
    assert each.attributes["test.case.name"] == "test_each[1]"
    phases = [s.name for s in spans if s.parent_span_id == each.span_id]
    assert sorted(phases) == ["call", "setup", "teardown"]
    inside = {(s.name, s.status) for s in spans if s.parent_span_id == tests["test_setup"].span_id}
    assert inside == {("setup", "error"), ("teardown", "unset")}


def test_spans_of_what_is_tested_are_in_the_trace(tmp_path: Path) -> None:
    code = """
import afterglow
def test_one():
    with afterglow.Tracer("t.db") as tracer, tracer.span("work"):
        pass
"""
    assert run(tmp_path, "--afterglow=t.db", tests=code).returncode == 0
    spans = {span.name: span for span in recorded(tmp_path / "t.db")}
    assert spans["work"].parent_span_id == spans["call"].span_id


def test_the_slowest_come_first(tmp_path: Path) -> None:
    code = """
import time, pytest
@pytest.mark.parametrize("n", range(3))
def test_slow(n):
    until = time.perf_counter() + n * 0.05
    while time.perf_counter() < until:
        pass
"""
    out = run(tmp_path, "--afterglow-slowest=2", "--afterglow", tests=code).stdout
    shown = [line.split()[2] for line in out.splitlines() if "test_shop.py::" in line]
    assert shown == ["test_shop.py::test_slow[2]", "test_shop.py::test_slow[1]"]


def test_beside_one_another(tmp_path: Path) -> None:
    done = run(tmp_path, "-n", "2", "--afterglow=x.db")
    assert "7 tests recorded" in done.stdout, done.stdout + done.stderr
    tests = roots(recorded(tmp_path / "x.db"))
    assert len(tests) == 7
    assert {span.attributes["pytest.worker"] for span in tests.values()} <= {"gw0", "gw1"}


def test_without_the_option_nothing_of_ours_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
def test_one():
    ours = {name for name in sys.modules if name.startswith("afterglow")}
    assert ours <= {"afterglow", "afterglow.version", "afterglow.pytest_plugin"}, ours
"""
    done = run(tmp_path, tests=code)
    assert done.returncode == 0, done.stdout
    assert "afterglow" not in done.stdout
    assert list(tmp_path.glob("*.db*")) == []


def test_it_can_be_left_out(tmp_path: Path) -> None:
    code = "import sys\ndef test_one():\n    assert 'afterglow.pytest_plugin' not in sys.modules\n"
    assert run(tmp_path, "-p", "no:afterglow", tests=code).returncode == 0
    assert run(tmp_path, "-p", "no:afterglow", "--afterglow").returncode == 4


@pytest.mark.parametrize("given", ["test_shop.py", "."])
def test_a_word_that_is_no_file(tmp_path: Path, given: str) -> None:
    done = run(tmp_path, "--afterglow", given)
    assert done.returncode == 4
    assert f"--afterglow took {given!r} for its file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("")
    done = run(tmp_path, "--afterglow=no/x.db")
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode in (1, 4)
