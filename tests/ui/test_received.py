"""Spans that a collector received, on the command line: by the names of their services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afterglow.sink.store import StoreSink
from tests.sink.payloads import buffered, part_with
from tests.ui.conftest import Command, record


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One trace through two services, `web` and then `db`."""
    path = tmp_path / "collected.db"
    sink = StoreSink(path)
    root = buffered(1, end=1_000, name="GET /", service="web", kind=2)
    sink.write([part_with([root, buffered(2, 1, start=10, end=60, name="query", service="db")])])
    sink.close()
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(path))
    return path


def test_runs_are_called_by_their_services(received: Path, command: Command) -> None:
    newest, older = command("runs").stdout.splitlines()[1:]
    assert "service db" in newest and "service web" in older
    assert "received" in newest


def test_a_report_of_a_service_and_of_all(received: Path, command: Command) -> None:
    assert command("report").stdout.startswith("service db\n")
    web = command("report", "--run", "web").stdout
    assert web.startswith("service web\n") and "GET /" in web and "query" not in web
    whole = command("report", "--run", "all").stdout
    assert whole.startswith("all runs\n") and "GET /" in whole and "query" in whole
    assert "2 spans" in whole and "2 processes" in whole


def test_a_tree_goes_through_services(received: Path, command: Command) -> None:
    lines = command("report", "--tree", "--run", "all").stdout.splitlines()
    (root,) = [number for number, line in enumerate(lines) if line.endswith("GET /")]
    assert lines[root + 1].endswith("query")
    document = json.loads(command("report", "--json", "--run", "all").stdout)
    assert document["run"]["spans"] == 2


def test_the_other_commands_know_them(received: Path, command: Command) -> None:
    trace = f"{1:032x}"
    assert "the books balance" in command("audit").stdout
    (row,) = json.loads(command("sql", "--json", "SELECT spans, is_last FROM segments").stdout)
    assert row == {"spans": 2, "is_last": 1}
    command("keep")
    command("pin", trace)
    assert "pinned" in command("keep").stdout
    command("forget", trace)
    assert "the books balance" in command("audit").stdout
    assert command("report", "--run", "all").stdout.startswith("all runs\n")


def test_all_is_of_programs_too_unless_a_run_is_called_so(database: Path, command: Command) -> None:
    record(database, "second")
    assert "2 processes" in command("report", "--run", "all").stdout
    record(database, "all")
    assert "run all" in command("report", "--run", "all").stdout
    assert "processes" not in command("report", "--run", "all").stdout
    assert "no run 'nothing'" in command("report", "--run", "nothing", status=2).output
