"""Reading files that ferret-io wrote: without it, on every Python."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import NotAStoreError, NotFoundError, StoreError
from afterglow.model.span import Span
from afterglow.store.beaver import LOG_TABLES
from afterglow.store.ferret import read_ferret
from tests.profiler.conftest import make_beaver_file

HEX = [uuid.UUID(int=(7 << 64) + n).hex for n in range(16)]


def stored(number: int, parent: int | None = None, **changed: Any) -> dict[str, Any]:
    """A record as ferret-io 0.3.1 writes it."""
    return {
        "span_id": HEX[number],
        "parent_id": None if parent is None else HEX[parent],
        "run_id": "run",
        "name": f"span {number}",
        "start_time": 1_700_000_000.5 + number,
        "end_time": 1_700_000_001.0 + number,
        "duration": 0.5,
        "tags": {},
        "status": "ok",
    } | changed


def write(
    path: Path,
    rows: Sequence[Any],
    *,
    table: str = LOG_TABLES[0],
    log: str = "_ferret_trace",
) -> Path:
    if not path.exists():
        make_beaver_file(path, table)
    connection = sqlite3.connect(path)
    with connection:
        for at, row in enumerate(rows):
            text = row if isinstance(row, str | bytes) else json.dumps(row)
            connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (log, at, text))
    connection.close()
    return path


def spans(path: Path, **arguments: Any) -> dict[str, Span]:
    with read_ferret(path, **arguments) as file:
        return {span.name: span for span in file.spans()}


@pytest.mark.parametrize("table", LOG_TABLES)
def test_a_span_comes_over_whole(tmp_path: Path, table: str) -> None:
    record = stored(1, tags={"rows": 3, "list": [1, {"a": None}]}, status="warning")
    found = spans(write(tmp_path / "f.db", [stored(0), record], table=table))
    span = found["span 1"]
    assert span.span_id == int(HEX[1], 16) & (1 << 64) - 1
    assert (span.start_ns, span.duration_ns) == (1_700_000_001_500_000_000, 500_000_000)
    assert span.attributes == {"rows": 3, "list": [1, {"a": None}]}
    assert (span.status, span.status_text) == ("unset", "warning")
    assert (span.run_id, span.parent_span_id) == ("run", 0)
    assert (found["span 0"].status, found["span 0"].status_text) == ("ok", "")


def test_parents_and_traces_are_found_whatever_comes_first(tmp_path: Path) -> None:
    rows = [stored(3, 2), stored(2, 1), stored(1), stored(4), stored(5, 4), stored(6, 9)]
    found = spans(write(tmp_path / "f.db", rows))
    first = {found[f"span {n}"].trace_id for n in (1, 2, 3)}
    assert len(first) == 1
    assert {found[f"span {n}"].trace_id for n in (4, 5)}.isdisjoint(first)
    assert found["span 3"].parent_span_id == found["span 2"].span_id
    assert found["span 2"].parent_span_id == found["span 1"].span_id
    assert found["span 6"].parent_span_id == 0, "its parent is missing"
    assert len({span.trace_id for span in found.values()}) == 3


def test_circles_and_parents_in_other_runs_make_roots(tmp_path: Path) -> None:
    rows = [stored(1, 2), stored(2, 1), stored(3, 3), stored(4), stored(5, 4, run_id="other")]
    rows.append(stored(6, 5, run_id="other"))
    found = spans(write(tmp_path / "f.db", rows))
    child = found.pop("span 6")
    assert {span.parent_span_id for span in found.values()} == {0}
    assert len({span.trace_id for span in found.values()}) == 5
    assert child.parent_span_id == found["span 5"].span_id
    assert child.trace_id == found["span 5"].trace_id


def test_a_span_that_is_there_twice_leads_nobody_in_circles(tmp_path: Path) -> None:
    rows = [stored(1), stored(2, 1), stored(1, 2, name="again")]
    found = spans(write(tmp_path / "f.db", rows))
    assert found["span 2"].parent_span_id == found["span 1"].span_id
    assert len({span.trace_id for span in found.values()}) == 1


def test_failed_and_unfinished_spans(tmp_path: Path) -> None:
    rows = [
        stored(1, status="error", tags={"error": "why", "error_type": "ValueError"}),
        stored(2, end_time=None, duration=None),
        stored(3, end_time=1_600_000_000.0, duration=-3.0),
        stored(4, duration=None),
    ]
    found = spans(write(tmp_path / "f.db", rows))
    assert (found["span 1"].status, found["span 1"].status_description) == ("error", "why")
    assert found["span 2"].interrupted
    assert found["span 3"].duration_ns == 0, "the wall clock was set back meanwhile"
    assert found["span 4"].duration_ns == pytest.approx(500_000_000)


def test_ids_of_any_kind_give_the_same_ids_each_time(tmp_path: Path) -> None:
    ids = ["00000000000000ff", "0" * 32, "", "a text", "\N{SNOWMAN}" * 16, HEX[5]]
    rows = [stored(0, span_id=text, name=text) for text in ids]
    path = write(tmp_path / "f.db", rows)
    first, second = spans(path), spans(path)
    assert first == second
    assert first["00000000000000ff"].span_id == 255
    assert len({span.span_id for span in first.values()}) == len(ids)
    assert all(0 < span.span_id < 1 << 64 for span in first.values())


def test_what_is_no_span_is_passed_over_and_counted(tmp_path: Path) -> None:
    rows = [
        "no JSON", "[]", "{}", b"\xff\xfe", stored(1), stored(2, start_time="soon"),
        stored(3, start_time=1e300), stored(3, start_time=1e10), stored(4, tags=5),
        stored(5, name=None),
    ]  # fmt: skip
    with read_ferret(write(tmp_path / "f.db", rows)) as file:
        assert [span.name for span in file.spans()] == ["span 1"]
        assert (file.total, file.unreadable) == (10, 9)


def test_runs_are_told_apart_and_can_be_read_one_by_one(tmp_path: Path) -> None:
    rows = [stored(1), stored(2, run_id="late"), stored(3), stored(0, run_id="early")]
    seen: list[tuple[int, int]] = []
    path = write(tmp_path / "f.db", rows)
    with read_ferret(path, progress=lambda *numbers: seen.append(numbers)) as file:
        processes = {process.run_id: process for process in file.processes()}
        assert list(processes) == ["early", "run", "late"]
        assert processes["run"].start_ns == 1_700_000_001_500_000_000
        assert processes["run"].end_ns == 1_700_000_004_000_000_000
        names = {run: [span.name for span in file.spans(run)] for run in processes}
        assert names == {"run": ["span 1", "span 3"], "late": ["span 2"], "early": ["span 0"]}
        assert list(file.spans("no such run")) == []
    assert seen == [] or seen[-1] == (4, 4)


def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    path = write(tmp_path / "f.db", [stored(1)])
    with read_ferret(path) as file:
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(
                f"INSERT INTO {LOG_TABLES[0]} VALUES ('_ferret_trace', 99, ?)",
                (json.dumps(stored(2, 1, run_id="new")),),
            )
        connection.close()
        assert [span.name for span in file.spans()] == ["span 1"]


def test_both_tables_of_a_file_that_two_versions_wrote(tmp_path: Path) -> None:
    path = write(tmp_path / "f.db", [stored(1)], table=LOG_TABLES[0])
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE {LOG_TABLES[1]} AS SELECT * FROM {LOG_TABLES[0]} LIMIT 0")
    connection.close()
    write(path, [stored(2, 1)], table=LOG_TABLES[1])
    found = spans(path)
    assert found["span 2"].parent_span_id == found["span 1"].span_id


def test_a_log_that_is_not_there_is_one_line_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "f.db", [stored(1)], log="mine")
    write(path, [stored(1)], log="it's theirs")
    with pytest.raises(NotFoundError) as caught:
        read_ferret(path)
    message = str(caught.value)
    assert "_ferret_trace" in message and "'mine'" in message and "it's theirs" in message
    assert "\n" not in message
    assert list(spans(path, namespace="mine")) == ["span 1"]
    with pytest.raises(NotFoundError, match="no logs"):
        read_ferret(make_beaver_file(tmp_path / "empty.db"))


def test_other_files_are_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.db"):
        read_ferret(tmp_path / "none.db")
    with pytest.raises(StoreError):
        read_ferret(tmp_path)
    (tmp_path / "text").write_text("x" * 5_000)
    with pytest.raises(NotAStoreError, match=r"text is no database that beaver-db made"):
        read_ferret(tmp_path / "text")
    (tmp_path / "empty").write_text("")
    with pytest.raises(NotAStoreError, match="empty"):
        read_ferret(tmp_path / "empty")
    sqlite3.connect(tmp_path / "other").executescript("CREATE TABLE t (a)").connection.close()
    with pytest.raises(NotAStoreError, match="other"):
        read_ferret(tmp_path / "other")


def test_a_file_in_a_folder_where_nobody_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(folder / "f.db", [stored(1)])
    folder.chmod(0o500)
    try:
        assert list(spans(path)) == ["span 1"]
        assert [file.name for file in folder.iterdir()] == ["f.db"] or os.geteuid() == 0
    finally:
        folder.chmod(0o700)


def test_a_report_reads_such_a_file_as_it_is(tmp_path: Path) -> None:
    rows = [stored(1, tags={"a": 1}), stored(2, 1, status="warning"), stored(3, run_id="other")]
    report = afterglow.Report(write(tmp_path / "f.db", rows))
    (root,) = report.build_trees("run")
    assert (root.span.span_id, root.span.tags) == (HEX[1], {"a": 1})
    assert root.children[0].span.parent_id == HEX[1]
    assert report.analyze_run("run")["span 2"].error_count == 1
    assert list(report.analyze_run("other")) == ["span 3"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    path = make_beaver_file(tmp_path / "f.db", LOG_TABLES[0])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            f"""INSERT INTO {LOG_TABLES[0]}
            WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 59999)
            SELECT '_ferret_trace', n, json_object(
                'span_id', printf('%032x', n + 1), 'run_id', 'run', 'name', 'same',
                'parent_id', CASE WHEN n % 10 THEN printf('%032x', n) END,
                'start_time', 1.7e9 + n, 'end_time', 1.7e9 + n + 1, 'duration', 1.0,
                'tags', json_object('n', n), 'status', 'ok') FROM n"""
        )
    connection.close()
    tracemalloc.start()
    try:
        with read_ferret(path) as file:
            traces = {span.trace_id for span in file.spans() if span.parent_span_id == 0}
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(traces) == 6_000
    # The caches of 65,536 ids take about 15 MB; 60,000 live spans would take 60.
    assert peak < 30_000_000
