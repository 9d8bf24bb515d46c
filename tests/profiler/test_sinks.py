"""The sinks under the Profiler, called as the writer calls them; on every Python."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import (
    MissingExtraError,
    NotAStoreError,
    SinkUnavailableError,
    UnencodableError,
)
from afterglow.ledger import new_ledger
from afterglow.model.flat import Extra
from afterglow.model.run import Process
from afterglow.ports import SpanBatch
from afterglow.sink.beaver import BeaverSink
from afterglow.sink.memory import MemorySink
from afterglow.store.beaver import LOG_TABLES, BeaverLog, is_beaver_file
from tests.profiler.conftest import make_beaver_file

START = 1_700_000_000_000_000_000


def batch(*names: str, starts: list[int] | None = None, **changed: Any) -> SpanBatch:
    """Finished spans, a microsecond apart; wall time is 1.7e18 ns + START column."""
    flat: list[Any] = []
    for number, name in enumerate(names):
        start = number * 1_000 if starts is None else starts[number]
        span = {"span_id": number + 1, "parent": 0, "attributes": {}, "extra": None} | changed
        flat += [1, span["span_id"], span["parent"], name, start, start + 500]
        flat += [span["attributes"], (1, "main"), span["extra"]]
    process = Process(run_id="run", pid=1, parent_pid=0, argv=(), host="", start_ns=START)
    return SpanBatch(flat, [], process, 5, START, new_ledger())


def rows(path: Path, table: str = LOG_TABLES[1]) -> list[tuple[float, dict[str, Any]]]:
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT timestamp, data FROM {table} ORDER BY rowid").fetchall()
    connection.close()
    return [(at, json.loads(text)) for at, text in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_beaver_file(tmp_path / "spans.db")


@pytest.fixture
def sink(path: Path) -> Iterator[BeaverSink]:
    made = BeaverSink(path, busy_timeout_s=0.0)
    yield made
    made.close()
    made.close()


@pytest.mark.parametrize("table", LOG_TABLES)
def test_the_stored_form_is_that_of_ferret(tmp_path: Path, table: str) -> None:
    path = make_beaver_file(tmp_path / "f.db", table)
    sink = BeaverSink(path)
    extra = Extra(status_text="warning")
    sink.write(batch("work", span_id=255, parent=16, attributes={"rows": 3}, extra=extra))
    sink.close()
    ((at, record),) = rows(path, table)
    assert at == 1_700_000_000.0
    assert list(record.items()) == [
        ("span_id", "00000000000000ff"),
        ("parent_id", "0000000000000010"),
        ("run_id", "run"),
        ("name", "work"),
        ("start_time", 1_700_000_000.0),
        ("end_time", 1_700_000_000.0000005),
        ("duration", 5e-07),
        ("tags", {"rows": 3}),
        ("status", "warning"),
    ]


def test_a_root_has_no_parent_and_is_ok(sink: BeaverSink, path: Path) -> None:
    sink.write(batch("root"))
    ((_, record),) = rows(path)
    assert (record["parent_id"], record["status"], record["tags"]) == (None, "ok", {})
    assert sink.counters()["beaver_spans"] == 1


def test_spans_of_one_microsecond_are_all_kept(sink: BeaverSink, path: Path) -> None:
    starts = [7_000, 7_300, 7_900, 8_100, 7_100]
    sink.write(batch(*"abcde", starts=starts))
    sink.write(batch(*"fg", starts=[7_000, 9_000]))
    sink.write(batch(*"abcde", starts=starts))
    found = rows(path)
    assert sorted(record["name"] for _, record in found) == sorted("abcdefgabcde")
    assert len({at for at, _ in found}) == 12
    assert max(at for at, _ in found) < 1_700_000_000.001
    assert found[0][1]["start_time"] == pytest.approx(1_700_000_000.000007, abs=1e-9)


def test_a_long_dense_stretch_is_passed(sink: BeaverSink, path: Path) -> None:
    names = [f"span {number}" for number in range(2_000)]
    sink.write(batch(*names))
    sink.write(batch(*names))
    assert len(rows(path)) == 4_000


def test_a_batch_that_cannot_be_encoded_leaves_nothing(sink: BeaverSink, path: Path) -> None:
    with pytest.raises(UnencodableError):
        sink.write(batch("fine", "half \ud800"))
    sink.write(batch("after"))
    assert [record["name"] for _, record in rows(path)] == ["after"]


def test_a_held_file_is_asked_again(sink: BeaverSink, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkUnavailableError, match="another process"):
        sink.write(batch("one"))
    assert sink._log is None, "the next try begins with a new connection"
    other.execute("ROLLBACK")
    other.close()
    sink.write(batch("one"))
    assert [record["name"] for _, record in rows(path)] == ["one"]


def test_a_batch_that_finds_no_room_leaves_nothing(path: Path) -> None:
    log = BeaverLog(path, "_ferret_trace")
    (pages,) = log._connection.execute("PRAGMA page_count").fetchone()
    log._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(afterglow.AfterglowError, match="full"):
        log.append((number, {"text": "x" * 1_000}) for number in range(100))
    log._connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
    log.append([(1, {"text": "x"})])
    log.close()
    assert [record for _, record in rows(path)] == [{"text": "x"}]


def test_a_replaced_file_is_noticed(sink: BeaverSink, path: Path, tmp_path: Path) -> None:
    sink.write(batch("into the first"))
    path.rename(tmp_path / "moved.db")
    make_beaver_file(path)
    sink.write(batch("into the second"))
    assert [record["name"] for _, record in rows(path)] == ["into the second"]


def test_a_batch_without_spans_touches_nothing(tmp_path: Path) -> None:
    path = make_beaver_file(tmp_path / "f.db")
    sink = BeaverSink(path)
    path.unlink()
    sink.write(batch())
    assert not path.exists()
    sink.close()


def test_a_child_neither_uses_nor_closes_its_parents_connection(
    sink: BeaverSink, path: Path
) -> None:
    sink.write(batch("parent"))
    connection = sink._log._connection  # type: ignore[union-attr]
    sink.after_fork()
    sink.write(batch("child"))
    assert sink._log._connection is not connection  # type: ignore[union-attr]
    assert connection.execute("SELECT 1").fetchone() == (1,), "it is still open"
    connection.close()
    assert [record["name"] for _, record in rows(path)] == ["parent", "child"]


def test_without_the_extra_one_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"afterglow\[beaver\]"):
        BeaverSink(tmp_path / "new.db")
    BeaverSink(make_beaver_file(tmp_path / "old.db"))  # needs nothing


def test_what_is_a_beaver_file(tmp_path: Path) -> None:
    assert is_beaver_file(make_beaver_file(tmp_path / "two.db", LOG_TABLES[1]))
    assert is_beaver_file(make_beaver_file(tmp_path / "one.db", LOG_TABLES[0]))
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    (tmp_path / "text").write_text("SQLite format 3\x00 and nothing")
    for other in ("other.db", "text", "none", "."):
        assert not is_beaver_file(tmp_path / other)
    with pytest.raises(NotAStoreError, match=r"other\.db"):
        BeaverLog(tmp_path / "other.db", "log")


def test_memory_gives_back_what_it_was_given() -> None:
    sink = MemorySink()
    with afterglow.Tracer(sink, run_id="run", batch_size=2) as tracer:
        with tracer.span("outer", rows=1) as outer:
            with tracer.span("inner"):
                outer.event("seen", at=1)
            outer.set(late=[1, "two"])
        assert tracer.flush()
        before = list(sink.spans())
        tracer.start_span("after").end()
    inner, outer_span, after = sink.spans()
    assert before == [inner, outer_span]
    assert (inner.name, inner.trace_id) == ("inner", outer_span.trace_id)
    assert inner.parent_span_id == outer_span.span_id
    assert outer_span.attributes == {"rows": 1, "late": [1, "two"]}
    assert [event.name for event in outer_span.events] == ["seen"]
    assert after.is_root and after.run_id == "run" and after.duration_ns is not None
    assert sink.counters()["memory_bytes"] > 0
