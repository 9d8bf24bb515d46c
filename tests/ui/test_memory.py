"""`afterglow memory`: what each command does to the store, prints, and says of bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

import afterglow
from afterglow.ui.commands import afterglow as command_line
from tests.ui.conftest import Command

KEY = "a secret of twenty-four"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFTERGLOW_SNAPSHOT_KEY", KEY)


@pytest.fixture
def some(command: Command) -> Command:
    """Three entries: key, friday, fan."""
    command("memory", "add", "The key is in the safe.", "--tag", "deploy", "--id", "key")
    felt = ("--valence", "-0.7", "--intensity", "0.9", "--unresolved")
    kind = ("--kind", "episodic", "--tag", "deploy")
    command("memory", "add", "Fridays went wrong.", "--id", "friday", *kind, *felt)
    command("memory", "add", "A loud fan", "--kind", "sensory", "--id", "fan")
    return command


def document(command: Command, *words: str) -> Any:
    return json.loads(command("memory", *words, "--json").stdout)


def ids(command: Command, *words: str) -> list[str]:
    return [entry["trace_id"] for entry in document(command, *words)]


def test_what_is_added_is_there_with_all_its_fields(some: Command) -> None:
    entry = document(some, "get", "friday")
    assert entry["payload"] == "Fridays went wrong."
    assert (entry["kind"], entry["tags"], entry["unresolved"]) == ("episodic", ["deploy"], True)
    assert (entry["valence"], entry["intensity"], entry["strength"]) == (-0.7, 0.9, 0.6)
    with afterglow.TraceStore("memory.db", maintenance=False) as store:
        assert {e.trace_id for e in store.all()} == {"key", "friday", "fan"}


def test_add_prints_the_id_alone(command: Command) -> None:
    trace_id = command("memory", "add", "x").stdout.strip()
    assert document(command, "get", trace_id[:6])["trace_id"] == trace_id


def test_stdin_and_json(command: Command) -> None:
    result = CliRunner().invoke(command_line, ["memory", "add", "-", "--id", "in"], "two\nlines\n")
    assert result.exit_code == 0
    assert document(command, "get", "in")["payload"] == "two\nlines"
    command("memory", "add", '{"n": [1, null]}', "--parse", "--id", "json")
    assert document(command, "get", "json")["payload"] == {"n": [1, None]}
    bad = CliRunner().invoke(command_line, ["memory", "add", "-"], b"\xff\xfe")
    assert (bad.exit_code, "no UTF-8" in bad.output) == (2, True)


def test_recall_finds_by_words_tag_and_kind_and_strengthens(some: Command) -> None:
    assert set(ids(some, "recall", "--tag", "deploy", "--peek")) == {"key", "friday"}
    assert ids(some, "recall", "--kind", "sensory", "--peek") == ["fan"]
    assert ids(some, "recall", "--kind", "episodic", "--tag", "deploy", "--peek") == ["friday"]
    assert ids(some, "recall", "LOUD fan", "--peek") == ["fan"]
    assert ids(some, "recall", "deploy", "safe", "--peek") == ["key"]
    assert ids(some, "recall", "loud safe", "--peek") == []
    assert document(some, "get", "key")["strength"] == 0.5, "a peek strengthened it"
    (found,) = document(some, "recall", "safe")
    assert (found["strength"], found["reinforcement_count"]) == (0.6, 1)
    assert 0 < found["score"] <= 0.5
    assert ids(some, "recall", "--limit", "1") == ["friday"]


def test_list_changes_nothing_and_goes_by_strength(some: Command) -> None:
    assert ids(some, "list") == ["friday", "key", "fan"]
    assert ids(some, "list", "--min-strength", "0.5") == ["friday", "key"]
    assert ids(some, "list", "--tag", "deploy", "--limit", "1") == ["friday"]
    assert document(some, "get", "key")["reinforcement_count"] == 0


def test_reinforce_link_and_forget(some: Command) -> None:
    (entry,) = document(some, "reinforce", "key", "--imprinting")
    assert entry["strength"] == 0.8
    assert document(some, "link", "key", "fan", "--once")["linked"] is False
    assert document(some, "link", "key", "friday")["linked"] is True
    assert document(some, "get", "friday")["associated"] == ["key"]
    assert document(some, "forget", "key", "key") == {"forgotten": 1}
    assert document(some, "forget", "--kind", "episodic") == {"forgotten": 1}
    assert document(some, "forget", "--everything") == {"forgotten": 1}
    assert "nothing is remembered" in some("memory", "list").stdout


def test_time_goes_by_between_commands(some: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from afterglow.clock import SystemClock

    then = SystemClock().wall_ns() + 3_600 * 10**9
    monkeypatch.setattr(SystemClock, "wall_ns", lambda _self: then)
    strength = document(some, "get", "key")["strength"]
    assert strength == afterglow.keep.decay.strength(0.5, 0.01, 60, 0.0)  # type: ignore[attr-defined]


def test_decay_lets_time_go_by_at_once(some: Command) -> None:
    done = document(some, "decay", "--ticks", str(10**17))
    assert (done["ticks"], done["pruned"], done["remaining"]) == (10**17, 1, 2)
    assert ids(some, "list") == ["key", "friday"]  # friday fades faster, though it began higher


def test_stats_count_by_kind(some: Command) -> None:
    found = document(some, "stats")
    assert (found["entries"], found["unresolved"], found["tiers"]) == (3, 1, {"hot": 3})
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert (kinds["sensory"]["entries"], kinds["sensory"]["half_life_ticks"]) == (1, 1023.0)
    assert kinds["firmware"]["half_life_ns"] is None
    lines = some("memory", "stats").stdout.splitlines()
    assert "3 of 10,000 entries" in lines[1]
    assert any(line.split()[:2] == ["sensory", "1"] for line in lines)


def test_stats_count_kinds_of_other_profiles(some: Command) -> None:
    from afterglow.keep.profile import SPANS

    with afterglow.TraceStore("memory.db", profile=SPANS, maintenance=False) as store:
        store.store("x", kind="slow")
    kinds = {kind["kind"]: kind for kind in document(some, "stats")["kinds"]}
    assert (kinds["slow"]["entries"], kinds["slow"]["half_life_ticks"]) == (1, None)
    assert any(
        line.split()[:2] == ["slow", "1"] for line in some("memory", "stats").stdout.splitlines()
    )


def test_the_quota_is_kept(command: Command) -> None:
    from afterglow.keep.profile import MEMORY

    with afterglow.TraceStore("memory.db", maintenance=False) as store:
        for i in range(MEMORY.max_entries):
            store.store(i, kind="sensory", trace_id=f"n{i}")
    done = document(command, "add", "one more")
    assert len(done["evicted"]) == 1
    assert document(command, "stats")["entries"] == MEMORY.max_entries
    result = command("memory", "add", "and another", "--id", "a")
    assert result.stdout == "a\n"
    assert "forgotten to make room for it" in result.stderr and "n1" in result.stderr


LOOK_AS_NOBODY = """
import os, sys
from click.testing import CliRunner
from afterglow.ui.commands import afterglow
runner = CliRunner()
where = ["--db", sys.argv[1]]
runner.invoke(afterglow, ["memory", "list", *where])  # while everything can be imported
runner.invoke(afterglow, ["memory", "stats", *where])
runner.invoke(afterglow, ["memory", "get", "a", *where])
if os.geteuid() == 0:  # to whom no permission matters
    os.setuid(65_534)
for words in (["list"], ["get", "a"], ["stats"], ["recall", "--peek"], ["recall"], ["add", "x"]):
    result = runner.invoke(afterglow, ["memory", *words, *where])
    print(words[0], result.exit_code, "what is there" in result.stdout)
"""


def test_who_may_not_write_may_look() -> None:
    folder = Path(tempfile.mkdtemp())  # not in pytest's, which is closed to others
    try:
        with afterglow.TraceStore(folder / "memory.db", maintenance=False) as store:
            store.store("what is there", kind="semantic", trace_id="a")
        (folder / "memory.db").chmod(0o444)
        folder.chmod(0o555)
        script = [sys.executable, "-c", LOOK_AS_NOBODY, str(folder / "memory.db")]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
    assert done.stdout.splitlines() == [
        "list 0 True",
        "get 0 True",
        "stats 0 False",
        "recall 0 True",
        "recall 2 False",
        "add 2 False",
    ]


def test_snapshots_come_back_and_are_pruned(some: Command) -> None:
    for name in ("one", "two", "three"):
        assert document(some, "snapshot", name)["entries"] == 3
    some("memory", "forget", "key")
    assert "ask again with" in some("memory", "restore", "one", status=2).stderr
    assert ids(some, "list") == ["friday", "fan"]
    assert document(some, "restore", "one", "--force")["entries"] == 3
    assert ids(some, "list") == ["friday", "key", "fan"]
    done = document(some, "snapshots", "--prune", "--keep", "1")
    assert (done["removed"], [s["name"] for s in done["snapshots"]]) == (["two", "one"], ["three"])


def test_a_snapshot_begins_a_new_memory(some: Command) -> None:
    path = document(some, "snapshot", "one")["path"]
    some("memory", "restore", path, "--db", "new.db")
    assert ids(some, "list", "--db", "new.db") == ids(some, "list")


def test_partitions_and_databases_do_not_see_each_other(
    some: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    some("memory", "add", "elsewhere", "--partition", "other", "--id", "o")
    assert ids(some, "list", "--partition", "other") == ["o"]
    assert "o" not in ids(some, "list")
    monkeypatch.setenv("AFTERGLOW_MEMORY_DATABASE", "second.db")
    some("memory", "add", "second", "--id", "s")
    assert ids(some, "list") == ["s"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_lines_fit_the_screen(some: Command, columns: int) -> None:
    some("memory", "add", "long " * 200, "--tag", "t" * 100)
    some("memory", "snapshot", "one")
    for words in (["list"], ["recall"], ["stats"], ["snapshots"], ["decay"]):
        output = some("memory", *words, columns=columns).stdout
        assert max(map(cell_len, output.splitlines())) <= columns, words


def test_what_could_drive_the_terminal_is_escaped(command: Command) -> None:
    command("memory", "add", "red \x1b[31m", "--id", "esc\u202e", "--tag", "\x1b]")
    for words in (["list"], ["get", "esc\u202e"], ["recall"]):
        output = command("memory", *words).stdout
        assert "\x1b" not in output and "\u202e" not in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "nothing"], "there is no entry"),
        (["get", "fr"], "there is no entry"),
        (["add", " "], "nothing to remember"),
        (["add", "x", "--kind", "nonsense"], "episodic"),
        (["add", "{", "--parse"], "leave --parse out"),
        (["add", "x", "--parent", "x", "--id", "x"], "own parent"),
        (["add", "x\ud800"], "surrogate"),
        (["list", "--kind", "nonsense"], "episodic"),
        (["list", "--kind", "nonsense", "--tag", "deploy"], "episodic"),
        (["list", "--db", "none.db"], "afterglow memory add"),
        (["list", "--db", "mysql://x/y"], "no trace store is at"),
        (["list", "--partition", ""], "memory_partition"),
        (["reinforce", "firm"], "firm"),
        (["link", "key", "key"], "itself"),
        (["forget"], "--everything"),
        (["forget", "key", "--everything"], "--everything"),
        (["restore", "nothing"], "no snapshot"),
        (["snapshot", ".."], "name of a snapshot"),
        (["snapshots", "--keep", "0"], "0"),
        (["decay", "--ticks", str(1 << 62)], "ticks"),
    ],
)
def test_bad_input_is_one_line(some: Command, words: list[str], said: str) -> None:
    some("memory", "add", "never fades", "--kind", "firmware", "--id", "firm")
    before = document(some, "list")
    result = CliRunner().invoke(command_line, ["memory", *words])
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert document(some, "list") == before
    assert not Path("none.db").exists()


def test_a_file_that_is_none_of_ours(command: Command) -> None:
    Path("memory.db").write_text("not a database " * 100)
    result = CliRunner().invoke(command_line, ["memory", "list"])
    assert result.exit_code == 2
    assert Path("memory.db").read_text().startswith("not a database")
