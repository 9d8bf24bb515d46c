"""The commands that look at a project on a PostgreSQL server, as a person runs them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afterglow.sink.postgres import PostgresSink
from tests.sink.payloads import buffered, part_with
from tests.ui.conftest import Command

MS = 1_000_000


@pytest.fixture
def url(postgres: str) -> str:
    """Two services of one project, one of another."""
    sink = PostgresSink(postgres)
    sink.write(
        [
            part_with(
                [
                    buffered(1, end=100 * MS, name="GET /", kind=2),
                    buffered(2, 1, start=10 * MS, end=40 * MS, name="query"),
                    buffered(3, 1, start=50 * MS, end=90 * MS, name="send", service="mail"),
                ]
            ),
            part_with([buffered(1, trace=2, end=MS, name="GET /")]),
            part_with([buffered(1, trace=3, end=7 * MS, name="theirs", project="other")]),
        ]
    )
    sink.close()
    return postgres


def said(command: Command, *words: str) -> Any:
    return json.loads(command(*words, "--json").stdout)


def test_report_says_where_time_went(command: Command, url: str) -> None:
    document = said(command, "report", url, "--run", "all")
    assert {s["name"]: s["self_ns"] for s in document["names"]} == {
        "GET /": 31 * MS,
        "query": 30 * MS,
        "send": 40 * MS,
    }
    assert "query" in command("report", url, "--run", "shop").stdout
    assert "theirs" in command("report", url, "--project", "other").stdout


def test_report_draws_trees_and_what_is_seen_stays_longer(command: Command, url: str) -> None:
    said(command, "keep", url)
    text = command("report", url, "--run", "all", "--tree", "--limit", "1").stdout
    assert "GET /" in text and "send" in text
    first, second = said(command, "keep", url)["strongest"]
    assert first["trace_id"] == f"{1:032x}" and first["strength"] > second["strength"]


def test_runs_and_audit(command: Command, url: str) -> None:
    assert {run["argv"][0] for run in said(command, "runs", url)} == {"shop", "mail"}
    books = said(command, "audit", url)
    assert books["balanced"] and books["sum"]["found"] == books["sum"]["written"] == 4
    assert said(command, "audit", url, "--project", "other")["sum"]["found"] == 1


def test_keep_pin_and_forget(command: Command, url: str) -> None:
    assert "2 traces" in command("keep", url).stdout
    trace = f"{1:032x}"
    assert said(command, "pin", trace, "--db", url)["changed"] is True
    kinds = {k["kind"]: k["traces"] for k in said(command, "keep", url)["kinds"]}
    assert (kinds["pinned"], kinds["normal"]) == (1, 1)
    assert said(command, "keep", url, "--max-traces", "1")["pass"]["forgotten_traces"] == 1
    assert said(command, "unpin", trace, "--db", url)["changed"] is True
    assert said(command, "forget", trace, "--db", url)["spans"] == 3
    books = said(command, "audit", url)["sum"]
    assert (books["found"], books["forgotten"]) == (0, {"asked": 3, "quota": 1})
    assert said(command, "report", url, "--run", "all")["names"][0]["count"] > 0


def test_what_cannot_be_done_is_one_line_without_the_password(command: Command, url: str) -> None:
    for words, line in (
        (("report", url, "--project", "nobody"), "there are: default, other"),
        (("sql", url, "SELECT 1"), "psql"),
        (("report", "mysql://me:hidden@host/db"), "postgresql://HOST/DATABASE"),
        (("report", "postgresql://me:hidden@127.0.0.1:1/db"), "127.0.0.1:1/db"),
        (("keep", "postgresql://me:hidden@127.0.0.1:1/db"), "127.0.0.1:1/db"),
    ):
        result = command(*words, status=2)
        assert line in result.stderr and len(result.stderr.splitlines()) == 1
        assert "hidden" not in result.output


def test_a_database_without_spans_says_so(command: Command, postgres: str) -> None:
    for name in ("report", "keep", "audit"):
        assert "afterglow serve" in command(name, postgres, status=2).stderr


def test_a_project_of_the_environment(
    command: Command, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE", url)
    monkeypatch.setenv("AFTERGLOW_STORE_PROJECT", "other")
    assert said(command, "audit")["sum"]["found"] == 1
