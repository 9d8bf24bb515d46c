"""Self times and trees, however spans are split into batches, portions, folds and processes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.analyse.trees import build_trees
from afterglow.model.flat import Extra
from afterglow.model.span import Span
from afterglow.model.tree import SpanNode
from afterglow.store import fold as fold_module
from afterglow.store.fold import fold
from afterglow.store.read import Database
from tests.store.conftest import NO_PID, JournalWriter, row


class Case:
    """Spans of two processes, the order in which they come, and where that is cut."""

    def __init__(self, draw: Any) -> None:
        count = draw(st.integers(1, 14))
        self.rows = []
        for span_id in range(1, count + 1):
            # 99 is a parent that never comes; a later one makes a forest of any shape.
            parent = draw(st.sampled_from([0, 99, *range(1, span_id)]))
            start = draw(st.integers(0, 30))
            end = start + draw(st.integers(0, 30))
            process = draw(st.integers(0, 1))
            self.rows.append((process, row(span_id, parent, start, end, trace=b"\1" * 16,
                                           extra=Extra(remote_parent=True))))  # fmt: skip
        self.order = draw(st.permutations(self.rows))
        self.cuts = draw(st.lists(st.sampled_from("-bf"), min_size=count, max_size=count))
        self.never_ends = draw(st.sets(st.integers(1, count), max_size=2))
        self.portion = draw(st.sampled_from([1, 3, 1_000]))


def recorded(case: Case, database: Path) -> None:
    """Write, rotate and fold as the case says."""
    writers = [JournalWriter(database, pid=NO_PID + number) for number in (0, 1)]
    waiting: list[list[Any]] = [[], []]
    try:
        for (process, flat), cut in zip(case.order, case.cuts, strict=True):
            if flat[1] not in case.never_ends:
                waiting[process].append(flat)
            if cut in "bf":
                for writer, rows in zip(writers, waiting, strict=True):
                    writer.write(*rows)
                    rows.clear()
            if cut == "f":
                writers[0].rotate()
                fold(database)
        for number, (writer, rows) in enumerate(zip(writers, waiting, strict=True)):
            still_open = [
                [*flat[:5], None, *flat[6:]]
                for process, flat in case.rows
                if process == number and flat[1] in case.never_ends
            ]
            writer.write(*rows, still_open=still_open)
    finally:
        for writer in writers:
            writer.die()


def self_time(span: Span, spans: list[Span]) -> int | None:
    """Tick by tick: those in which no child that has ended is at work."""
    if span.end_ns is None:
        return None
    return sum(
        not any(
            child.parent_span_id == span.span_id
            and child.end_ns is not None
            and child.start_ns <= tick < child.end_ns
            for child in spans
        )
        for tick in range(span.start_ns, span.end_ns)
    )


def shape(node: SpanNode) -> list[tuple[int, int, int | None]]:
    return [(depth, below.span.span_id, below.self_ns) for depth, below in node.walk()]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_self_times_are_exact_however_spans_come(data: Any) -> None:
    case = Case(data.draw)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_module, "_PORTION", case.portion)
        database = Path(folder) / "x.db"
        recorded(case, database)
        with Database(database) as opened:
            spans = list(opened.spans())
            stored = dict(opened.query("SELECT span_id, self_ns FROM spans")[1])
            trees = [shape(root) for root in opened.traces()]
            assert [shape(root) for root in opened.traces(limit=2)] == trees[:2]
        assert len(spans) == len(case.rows)
        for span in spans:
            assert stored[f"{span.span_id:016x}"] == self_time(span, spans)
        assert sorted(map(shape, build_trees(spans))) == sorted(trees)


def test_children_that_end_after_their_parent(database: Path, writer: JournalWriter) -> None:
    def self_ns() -> list[int]:
        fold(database)
        with Database(database) as opened:
            return [n for (n,) in opened.query("SELECT self_ns FROM spans WHERE name = 'p'")[1]]

    writer.write(row(2, 1, start=10, end=20))
    writer.write(row(1, start=0, end=100, name="p"))
    assert self_ns() == [90]
    writer.write(row(3, 1, start=15, end=50))
    assert self_ns() == [60]
    writer.write(row(4, 1, start=90, end=500), row(5, 1, start=100, end=101))
    assert self_ns() == [50]


def test_nothing_is_awaited_that_has_come(database: Path, writer: JournalWriter) -> None:
    writer.write(row(3, 2), row(9, 8))
    fold(database)
    with Database(database) as opened:
        assert len(list(opened.query("SELECT * FROM awaited")[1])) == 2
    writer.write(row(2, 1))
    writer.write(row(1))
    fold(database)
    with Database(database) as opened:
        ((_, span_id),) = opened.query("SELECT * FROM awaited")[1]
        assert span_id == f"{8:016x}"
