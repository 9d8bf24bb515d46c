"""`afterglow import`: files that ferret-io wrote become runs of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.profiler.test_ferret_files import stored, write
from tests.ui.conftest import Command


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        stored(2, parent=1, run_id="nightly", status="error", tags={"error": "boom"}),
        stored(1, run_id="nightly", duration=3.0, end_time=1_700_000_004.5),
        stored(3, run_id="weekly"),
        "no span at all",
    ]
    return write(tmp_path / "ferret.db", rows)


def test_runs_are_copied_once(source: Path, tmp_path: Path, command: Command) -> None:
    target = tmp_path / "ours.db"
    output = command("import", str(source), "--db", str(target)).stdout
    assert output.splitlines()[0] == f"3 spans of 2 runs copied into {target}"
    assert "1 row passed over" in output
    document = json.loads(command("report", str(target), "--run", "nightly", "--json").stdout)
    assert {name["name"]: name["errors"] for name in document["names"]} == {
        "span 1": 0,
        "span 2": 1,
    }
    assert "└ ✗ span 2  boom" in command("report", str(target), "--run", "nightly", "--tree").stdout
    again = json.loads(command("import", str(source), "--db", str(target), "--json").stdout)
    assert again == {
        "database": str(target),
        "runs": [
            {"run_id": "nightly", "spans": 0, "known": True},
            {"run_id": "weekly", "spans": 0, "known": True},
        ],
        "unreadable_rows": 1,
    }
    assert "2 runs passed over" in command("import", str(source), "--db", str(target)).stdout
    assert "the books balance" in command("audit", str(target)).stdout


def test_the_database_is_the_usual_one(
    source: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command("import", str(source))
    assert (tmp_path / "afterglow.db").exists()


def test_what_cannot_be_imported(source: Path, tmp_path: Path, command: Command) -> None:
    result = command("import", str(source), "--namespace", "nosuch", status=2)
    assert "nosuch" in result.stderr and "_ferret_trace" in result.stderr
    (tmp_path / "notes.txt").write_text("text")
    assert "notes.txt" in command("import", str(tmp_path / "notes.txt"), status=2).stderr
    assert not (tmp_path / "afterglow.db").exists()
