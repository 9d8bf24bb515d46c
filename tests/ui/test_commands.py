"""Each command on a real database: what it prints for people, and what for programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from afterglow.config import ROOMS, described
from afterglow.ui.settings import without_password
from tests.ui.conftest import Command, record


def test_report_prints_a_table_by_self_time(database: Path, command: Command) -> None:
    output = command("report", str(database)).stdout
    lines = output.splitlines()
    assert "run first" in lines[1] and "5 spans" in lines[1] and "1 error" in lines[1]
    head = next(line for line in lines if line.startswith("name"))
    for title in ("calls", "errors", "total", "self", "mean", "p50", "p95", "p99", "min", "max"):
        assert title in head.split()
    step = next(line for line in lines if line.startswith("step")).split()
    assert step[1] == "3" and "33.3%" in step
    assert {line.split()[0] for line in lines[4:7]} == {"main", "load", "step"}


@pytest.mark.parametrize("columns", [70, 80, 120, 200])
def test_report_and_runs_fit_the_screen(database: Path, command: Command, columns: int) -> None:
    record(database, "second", spans=40)
    for words in (["report"], ["report", "--tree"], ["runs"], ["audit"]):
        output = command(*words, columns=columns).stdout
        assert max(map(cell_len, output.splitlines())) <= columns


def test_wider_screens_show_more_columns(database: Path, command: Command) -> None:
    def titles(columns: int | None) -> list[str]:
        output = command("report", columns=columns).stdout
        return next(line for line in output.splitlines() if line.startswith("name")).split()

    assert set(titles(60)) < set(titles(80)) < set(titles(120)) <= set(titles(None))
    assert {"calls", "self", "mean"} <= set(titles(80))


def test_names_have_room_before_all_columns_have(tmp_path: Path, command: Command) -> None:
    import afterglow

    name = "package.module.Class.method_of_it"
    with afterglow.Tracer(tmp_path / "a.db") as tracer, tracer.span(name):
        pass
    output = command("report", str(tmp_path / "a.db"), columns=80).stdout
    assert "Class.method_of_it" in output and "mean" in output and "min" not in output


def test_without_a_terminal_there_are_no_colours(database: Path, command: Command) -> None:
    for words in (["report"], ["report", "--tree"], ["runs"], ["audit"], ["settings"]):
        assert "\x1b" not in command(*words).stdout


def test_report_as_json_has_stable_keys(database: Path, command: Command) -> None:
    document = json.loads(command("report", "--json").stdout)
    assert set(document) == {"run", "names", "counted", "ledger"}
    assert document["run"]["run_id"] == "first"
    assert set(document["names"][0]) == {
        "name", "count", "total_ns", "self_ns", "mean_ns", "p50_ns", "p95_ns", "p99_ns",
        "min_ns", "max_ns", "errors", "error_rate", "interrupted",
    }  # fmt: skip
    step = next(name for name in document["names"] if name["name"] == "step")
    assert (step["count"], step["errors"]) == (3, 1)
    assert document["ledger"]["recorded"] == document["ledger"]["written"] == 5


def test_report_sorts_limits_and_filters(database: Path, command: Command) -> None:
    def names(*words: str) -> list[str]:
        document = json.loads(command("report", "--json", *words).stdout)
        return [name["name"] for name in document["names"]]

    assert names("--sort", "total")[0] == "main"
    assert names("--sort", "count")[0] == "step"
    assert len(names("--limit", "2")) == 2
    assert len(names("--limit", "0")) == 3
    assert names("--name", "l*") == ["load"]
    assert "2 more names" in command("report", "--limit", "1").stdout


def test_shares_are_of_the_whole_run_whatever_is_filtered(database: Path, command: Command) -> None:
    line = next(
        line
        for line in command("report", "--name", "load").stdout.splitlines()
        if line.startswith("load")
    )
    share = float(line.split("%")[0].split()[-1].lstrip("<"))
    assert share < 100


def test_trees(database: Path, command: Command) -> None:
    output = command("report", "--tree").stdout
    assert "main  user=ada" in output
    assert 'load  path="a b.toml"' in output
    assert "step x2  kind=x" not in output  # two alike are no run
    assert "✗ step" in output and "i=2" in output


def test_trees_as_json_are_flat_lists_depth_first(database: Path, command: Command) -> None:
    document = json.loads(command("report", "--tree", "--json").stdout)
    assert set(document) == {"run", "traces"}
    (trace,) = document["traces"]
    spans = trace["spans"]
    assert [(s["name"], s["depth"]) for s in spans] == [
        ("main", 0), ("load", 1), ("step", 1), ("step", 1), ("step", 1),
    ]  # fmt: skip
    main = spans[0]
    assert main["parent_span_id"] is None
    assert all(s["parent_span_id"] == main["span_id"] for s in spans[1:])
    assert all(s["end_ns"] - s["start_ns"] == s["total_ns"] >= s["self_ns"] for s in spans)
    assert spans[-1]["status"] == "error" and spans[-1]["events"][0]["name"] == "exception"
    assert spans[2]["attributes"] == {"i": 0, "kind": "x"}


def test_runs_are_listed_newest_first(database: Path, command: Command) -> None:
    record(database, "second", spans=1)
    assert [run["run_id"] for run in json.loads(command("runs", "--json").stdout)] == [
        "second",
        "first",
    ]
    lines = command("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "second", "first"]
    assert "1 older run" in command("runs", "--limit", "1").stdout


def test_a_run_is_named_by_its_beginning(database: Path, command: Command) -> None:
    record(database, "second", spans=1)
    record(database, "secret", spans=1)
    assert "run secret" in command("report").stdout
    assert "run first" in command("report", "--run", "fi").stdout
    assert "run second" in command("report", "--run", "second").stdout
    result = command("report", "--run", "sec", status=2)
    assert "2 runs begin with 'sec'" in result.stderr and "second" in result.stderr
    result = command("report", "--run", "nope", status=2)
    assert "there is no run 'nope'" in result.stderr and "first" in result.stderr
    assert result.stdout == ""


def test_a_name_that_nothing_is_like(database: Path, command: Command) -> None:
    assert "no name in this run is like 'x'" in command("report", "--name", "x", status=2).stderr


def test_audit_balances(database: Path, command: Command) -> None:
    document = json.loads(command("audit", "--json").stdout)
    assert document["balanced"] is True and document["problems"] == []
    (process,) = document["processes"]
    assert process["recorded"] == process["written"] == process["found"] == 5
    assert process["in_flight"] == process["missing"] == 0
    assert "the books balance" in command("audit").stdout


def test_audit_of_all_runs_has_a_sum(database: Path, command: Command) -> None:
    record(database, "second", spans=10)
    lines = command("audit").stdout.splitlines()
    assert lines[0].split()[:2] == ["run", "pid"]
    assert lines[3].split()[:2] == ["all", "17"]
    assert json.loads(command("audit", "--json").stdout)["sum"]["recorded"] == 17
    assert len(json.loads(command("audit", "--run", "first", "--json").stdout)["processes"]) == 1


def test_audit_says_which_rows_are_missing(database: Path, command: Command) -> None:
    import sqlite3

    command("runs")  # folds
    connection = sqlite3.connect(database)
    connection.execute("DELETE FROM spans WHERE name = 'load'")
    connection.commit()
    connection.close()
    result = command("audit", status=1)
    assert "1 span written, but not in the file" in result.stdout
    assert json.loads(command("audit", "--json", status=1).stdout)["balanced"] is False


def test_sql_in_three_forms(database: Path, command: Command) -> None:
    text = "SELECT name, count(*) AS n, NULL AS empty FROM spans GROUP BY name ORDER BY name"
    expected = [("load", 1), ("main", 1), ("step", 3)]
    rows = json.loads(command("sql", text, "--json").stdout)
    assert rows == [{"name": name, "n": n, "empty": None} for name, n in expected]
    table = list(csv.reader(io.StringIO(command("sql", str(database), text, "--csv").stdout)))
    assert table == [["name", "n", "empty"], *([name, str(n), ""] for name, n in expected)]
    lines = command("sql", text).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "n", "empty"],
        *([name, str(n), "null"] for name, n in expected),
    ]
    assert json.loads(command("sql", "SELECT 1 WHERE 0", "--json").stdout) == []


def test_sql_of_more_rows_than_one_page(database: Path, command: Command) -> None:
    text = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "SELECT i, 'row ' || i FROM n"
    )
    lines = command("sql", text).stdout.splitlines()
    assert len(lines) == 1001
    assert lines[-1].split() == ["1000", "row", "1000"]
    assert len(json.loads(command("sql", text, "--json").stdout)) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM spans",
        "DROP TABLE spans",
        "CREATE TABLE t (a)",
        "PRAGMA user_version = 7",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
    ],
)
def test_sql_changes_nothing(
    database: Path, command: Command, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    command("runs")
    before = database.read_bytes()
    result = command("sql", text, status=2)
    assert result.stderr.startswith("afterglow: ") and result.stderr.count("\n") == 1
    assert database.read_bytes() == before
    assert not (database.parent / "other.db").exists()


def test_sql_that_is_wrong_says_what(database: Path, command: Command) -> None:
    assert "nosuch" in command("sql", "SELECT nosuch FROM spans", status=2).stderr
    assert "in quotes" in command("sql", "a", "b", "c", status=2).stderr
    assert "not both" in command("sql", "SELECT 1", "--json", "--csv", status=2).stderr


def test_settings_say_where_values_come_from(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "77")
    found = {s["name"]: s for s in json.loads(command("settings", "--json").stdout)}
    assert set(found) == {name for room in ROOMS for name, *_ in described(room)}
    assert found["max_queue_size"]["value"] == 77
    assert found["max_queue_size"]["source"] == "OTEL_BSP_MAX_QUEUE_SIZE"
    assert found["batch_size"]["source"] == "default"
    line = next(s for s in command("settings").stdout.splitlines() if "max_queue_size" in s)
    assert "77 spans" in line and "OTEL_BSP_MAX_QUEUE_SIZE" in line
    assert max(map(len, command("settings", columns=80).stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hu@s/h?@host:1/0", "redis://***@host:1/0"),
        ("redis+cluster://ada:hush@a:1,b:2", "redis+cluster://***@a:1,b:2"),
        ("redis://host:1/0", "redis://host:1/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_settings_show_no_secret(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_SNAPSHOT_KEY", "hush, a long secret")
    url = "postgresql://ada:hush@host/db?password=hush&sslmode=off"
    monkeypatch.setenv("AFTERGLOW_MEMORY_DATABASE", url)
    for output in (command("settings").stdout, command("settings", "--json").stdout):
        assert "hush" not in output
        assert "(set)" in output and "postgresql://***@host/db?password=***&sslmode" in output
    monkeypatch.setenv("AFTERGLOW_SNAPSHOT_KEY", "hush")
    assert "hush" not in command("settings", status=2).output


def test_a_bad_setting_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_BATCH_SIZE", "many")
    result = command("settings", status=2)
    assert result.stderr.startswith("afterglow: AFTERGLOW_BATCH_SIZE='many'")
    assert result.stderr.count("\n") == 1


def test_names_cannot_drive_the_terminal(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import afterglow

    path = tmp_path / "evil.db"
    with afterglow.Tracer(path, run_id="evil") as tracer:
        with tracer.span("\x1b[2Jcleared\r\n", key="\x1b]0;title\x07"):
            pass
        with tracer.span("[bold]markup[/bold] :smile:"):
            pass
    for words in (["report"], ["report", "--tree"], ["sql", str(path), "SELECT name FROM spans"]):
        output = command(*words, *([str(path)] if words[0] == "report" else [])).stdout
        assert "\x1b" not in output and "\r" not in output and "\x07" not in output
        assert "\\x1b[2Jcleared\\r\\n" in output
        assert "[bold]markup[/bold] :smile:" in output


def test_every_command_has_help(command: Command) -> None:
    listed = command("--help").stdout
    for name in ("run", "report", "runs", "audit", "sql", "import", "settings"):
        assert f"\n  {name} " in listed
        assert "Usage: " in command(name, "--help").stdout


def test_the_version(command: Command) -> None:
    import afterglow

    assert command("--version").stdout == f"afterglow {afterglow.__version__}\n"
