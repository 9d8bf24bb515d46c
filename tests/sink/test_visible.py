"""What was just accepted is in the file at once; whatever goes wrong there costs no span."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from afterglow.sink.project_files import ProjectFiles
from afterglow.sink.store import StoreSink
from afterglow.sink.visible import Visible
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from tests.sink.payloads import buffered, part_with


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "afterglow.db"


def ids(path: Path) -> list[int]:
    with Database(path) as database:
        assert all(audit.agrees for audit in database.audit())
        return [span.span_id for span in database.spans()]


def test_seen_at_once_and_assembled_later(path: Path) -> None:
    files = ProjectFiles(path)
    visible, sink = Visible(files, clock=ManualClock()), StoreSink(files)
    spans = [buffered(2, 1), buffered(1, end=30)]
    visible.accept(spans[:1])
    visible.accept(spans[1:])
    assert visible.step() == 0.25
    assert ids(path) == [2, 1]
    sink.write([part_with([spans[1], spans[0], buffered(3, 1)])])
    assert ids(path) == [2, 1, 3]
    visible.accept(spans)
    visible.step()
    assert ids(path) == [2, 1, 3] and visible.written == 2
    files.close()


def test_what_the_buffer_drops_is_not_in_the_file(path: Path) -> None:
    visible = Visible(path, clock=ManualClock(), max_span_bytes=10_000)
    good = buffered(1)
    visible.accept(
        [
            good,
            buffered(2)._replace(span_id=b"123"),
            buffered(3)._replace(trace_id=b"123"),
            buffered(0),
            buffered(4, trace=0),
            buffered(5, name="x" * 10_000),
        ]
    )
    visible.close()
    assert ids(path) == [1]


def test_it_lets_go_when_it_falls_behind(path: Path) -> None:
    visible = Visible(path, clock=ManualClock(), most_waiting=3)
    visible.accept([buffered(1), buffered(2)])
    visible.accept([buffered(3), buffered(4)])
    visible.accept([buffered(5)])
    assert visible.let_go == 2
    visible.close()
    assert ids(path) == [1, 2, 5]
    visible.accept([buffered(6)])
    assert visible.let_go == 3


def test_a_file_that_is_held_is_complained_about_once_a_minute(path: Path) -> None:
    said: list[str] = []
    clock = ManualClock()
    files = ProjectFiles(path, busy_ms=1)
    StoreSink(files).write([part_with([buffered(9)])])
    visible = Visible(files, clock=clock, report=said.append)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for number in (1, 2):
        visible.accept([buffered(number)])
        visible.step()
    assert len(said) == 1 and "nothing is lost" in said[0] and visible.let_go == 2
    clock.advance_s(61)
    visible.accept([buffered(3)])
    visible.step()
    assert len(said) == 2
    holder.execute("ROLLBACK")
    holder.close()
    visible.accept([buffered(4)])
    visible.step()
    assert len(said) == 3 and "again" in said[2]
    assert ids(path) == [9, 4]
    files.close()


def test_in_a_thread(path: Path) -> None:
    visible = Visible(path, flush_s=0.001)
    visible.start()
    for number in range(1, 200):
        visible.accept([buffered(number, trace=number)])
    visible.close()
    visible.close()
    assert sorted(ids(path)) == list(range(1, 200))
