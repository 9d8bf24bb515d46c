"""`afterglow keep`, `pin`, `unpin` and `forget`, as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.keep.retention import Retention
from tests.ui.conftest import Command, record


def kept(command: Command, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("keep", "--json", *words).stdout)
    return found


def counted(command: Command) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("audit", "--json").stdout)["sum"]["forgotten"]
    return found


@pytest.fixture
def calm(database: Path) -> Path:
    """One more run, of five traces in which nothing fails."""
    with afterglow.Tracer(database, run_id="calm") as tracer:
        for _ in range(5):
            with tracer.span("request"), tracer.span("query"):
                pass
    return database


def test_keep_says_what_is_kept_and_why(command: Command, calm: Path) -> None:
    for columns in (None, 80, 60):
        said = command("keep", columns=columns).stdout
        if columns:
            assert max(map(len, said.splitlines())) <= max(columns, 78)
    assert "6 traces" in said
    for word in ("pinned", "error", "normal", "half life", "stays longest", "goes next"):
        assert word in said
    assert "nothing was ever forgotten" in said
    document = kept(command)
    assert document["traces"] == 6
    assert {k["kind"]: k["traces"] for k in document["kinds"] if k["traces"]} == {
        "error": 1,
        "normal": 5,
    }
    assert document["strongest"][0]["why"] == "spans inside failed"
    assert document["next_to_go"][0]["name"] == "request"
    (error,) = (k for k in document["kinds"] if k["kind"] == "error")
    assert error["half_life_s"] == pytest.approx(14 * 86_400, abs=1)


def test_a_quota_forgets_and_everything_still_adds_up(command: Command, calm: Path) -> None:
    before = command("report", "--run", "calm", "--json").stdout
    said = command("keep", "--dry-run", "--max-traces", "1").stdout
    assert "a pass now would forget 5 traces beyond keep_max_traces" in said
    document = kept(command, "--dry-run", "--max-traces", "1")
    assert document["pass"]["forgotten_traces"] == 0
    assert document["due"] == {"faded": 0, "quota": 5} and not document["full"]
    assert "a pass now would forget nothing" in command("keep", "--dry-run").stdout
    assert kept(command, "--max-traces", "1")["pass"]["forgotten_spans"] == 10
    assert counted(command) == {"quota": 10}
    assert command("report", "--run", "calm", "--json").stdout == before
    said = command("keep").stdout
    assert "forgotten so far: 5 traces (5 quota), 10 spans" in said
    said = command("audit").stdout
    assert "forgotten" in said and "is there or counted as forgotten" in said


def test_pin_unpin_and_forget(command: Command, calm: Path) -> None:
    trace = kept(command)["next_to_go"][0]["short_id"]
    assert "is pinned" in command("pin", trace).stdout
    assert "is pinned already" in command("pin", trace, "--db", str(calm)).stdout
    kept(command, "--max-traces", "1")
    left = kept(command)
    assert [t["kind"] for t in left["strongest"]] == ["pinned"]
    assert "is not pinned" in command("unpin", trace).stdout
    assert json.loads(command("forget", trace, "--json").stdout)["spans"] == 2
    assert counted(command) == {"quota": 5 + 8, "asked": 2}
    with closing(sqlite3.connect(calm)) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (0,)


def test_a_trace_may_be_pinned_before_anybody_kept_anything(
    command: Command, database: Path
) -> None:
    document = json.loads(command("report", "--tree", "--json").stdout)
    trace = document["traces"][0]["trace_id"]
    assert "is pinned" in command("pin", trace).stdout
    assert kept(command)["strongest"][0]["kind"] == "pinned"


@pytest.mark.parametrize("word", ["pin", "unpin", "forget"])
def test_traces_that_are_not_there(
    child: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, word: str
) -> None:
    record(tmp_path / "afterglow.db", "first")
    for trace, says in (("abc", "no trace begins with abc"), ("nonsense", "hexadecimal")):
        done = child(word, trace)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["keep", "none.db"], "not there"),
        (["keep", "--max-bytes", "5"], "keep_max_bytes"),
        (["keep", "--max-traces", "0"], "keep_max_traces"),
        (["keep", "--follow", "--dry-run"], "not both"),
        (["keep", "--follow", "text.txt"], "no database"),
        (["keep", "text.txt"], "no database"),
        (["pin"], "TRACE"),
    ],
)
def test_bad_input_is_one_clear_line(
    child: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    words: list[str],
    says: str,
) -> None:
    record(tmp_path / "afterglow.db", "first")
    (tmp_path / "text.txt").write_text("no database\n" * 20)
    done = child(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_reading_forgets_nothing_unless_the_settings_say_so(
    command: Command, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERGLOW_KEEP_MAX_TRACES", "1")
    for words in (["report"], ["report", "--tree"], ["runs"], ["sql", "SELECT 1"]):
        command(*words)
    assert counted(command) == {}
    monkeypatch.setenv("AFTERGLOW_KEEP_WHEN_READ", "true")
    command("runs")
    assert counted(command) == {"quota": 10}


def test_looking_at_a_trace_makes_it_stay(
    command: Command, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(command)

    def looks() -> int:
        with Retention(calm) as retention:
            found = retention.connection.execute("SELECT sum(reinforcement_count) FROM entries")
            return int(found.fetchone()[0])

    assert looks() == 0
    command("report", "--tree", "--run", "calm")
    assert looks() == 3  # as many as it shows
    command("report", "--tree", "--json", "--run", "calm", "--limit", "1")
    assert looks() == 4
    command("report", "--tree", "--limit", "0")  # everything: no choice, no look
    monkeypatch.setenv("AFTERGLOW_KEEP_LOOKS", "false")
    command("report", "--tree", "--run", "calm")
    assert looks() == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_follow_goes_on_until_it_is_told(tmp_path: Path, number: signal.Signals) -> None:
    database = tmp_path / "afterglow.db"
    record(database, "first")
    words = [sys.executable, "-m", "afterglow", "keep", "--follow", "--json", str(database)]
    settings = {"AFTERGLOW_KEEP_INTERVAL_S": "0.1", "AFTERGLOW_KEEP_MAX_TRACES": "1"}
    environment = os.environ | settings
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert (first["folded_spans"], first["forgotten_traces"]) == (5, 0)
        record(database, "second")
        while not json.loads(process.stdout.readline())["forgotten_traces"]:
            pass  # its last batch may come in a pass of its own
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    with afterglow.open(database) as opened:
        assert all(audit.agrees for audit in opened.audit())
        assert sum(sum(audit.forgotten.values()) for audit in opened.audit()) == 5
