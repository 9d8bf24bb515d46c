"""However received spans come, the tables are those of one insert of all of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.model.segment import BufferedSpan
from afterglow.model.tree import SpanNode
from afterglow.sink.project_files import ProjectFiles, project_path
from afterglow.sink.store import StoreSink
from afterglow.sink.visible import Visible
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from tests.sink.payloads import buffered, part_with

PROJECTS = ("default", "other")


def shape(node: SpanNode) -> tuple[Any, ...]:
    """A tree without the order of those that begin at the same time."""
    return node.span.span_id, node.self_ns, sorted(map(shape, node.children))


def content(path: Path) -> dict[str, Any]:
    """All that a person can ask, without the row numbers."""
    if not path.exists():
        return {}
    with Database(path) as database:
        spans = sorted(database.spans(), key=lambda span: (span.trace_id, span.span_id))
        assert all(audit.agrees for audit in database.audit())
        _, self_ns = database.query("SELECT trace_id, span_id, self_ns FROM spans ORDER BY 1, 2")
        _, awaited = database.query("SELECT * FROM awaited ORDER BY 1, 2")
        _, errors = database.query("SELECT run_id, errors, seen_ns FROM processes ORDER BY 1")
        return {
            "spans": spans,
            "statistics": sorted(database.statistics(), key=lambda s: s.name),
            "trees": sorted(shape(root) for root in database.traces()),
            "runs": sorted(database.runs(), key=lambda run: run.run_id),
            "ledger": database.ledger(),
            "audits": sorted((a.process.run_id, a.found) for a in database.audit()),
            "self": list(self_ns),
            "awaited": list(awaited),
            "errors": list(errors),
        }


@st.composite
def forests(draw: Any) -> list[BufferedSpan]:
    """A few traces of two projects; span ids come in several of them."""
    spans = []
    for project in PROJECTS[: draw(st.integers(1, 2))]:
        for trace in range(1, draw(st.integers(1, 2)) + 1):
            for number in range(1, draw(st.integers(1, 7)) + 1):
                start = draw(st.integers(0, 30))
                spans.append(
                    buffered(
                        number,
                        # 99 never comes; a later one, or itself, is a parent too.
                        draw(st.sampled_from([0, 99, number, number + 1, *range(1, number)])),
                        trace=trace,
                        start=start,
                        end=start + draw(st.integers(0, 30)),
                        name=draw(st.sampled_from("ab")),
                        service=draw(st.sampled_from(["shop", "till"])),
                        project=project,
                        attributes=draw(st.sampled_from([None, {"k": 1}])),
                        kind=draw(st.integers(0, 5)),
                        status={"code": draw(st.integers(0, 2))},
                        events=[{"name": "e", "time_unix_nano": 5}] * draw(st.integers(0, 1)),
                        links=[{"trace_id": b"\1" * 16, "span_id": b"\2" * 8}]
                        * draw(st.integers(0, 1)),
                    )
                )
    return spans


def by_trace(spans: Sequence[BufferedSpan]) -> list[list[BufferedSpan]]:
    traces: dict[tuple[str, bytes], list[BufferedSpan]] = {}
    for span in spans:
        traces.setdefault((span.project, span.trace_id), []).append(span)
    return list(traces.values())


@st.composite
def deliveries(draw: Any, spans: list[BufferedSpan]) -> list[tuple[list[BufferedSpan], int]]:
    """Everything at least once, in any order, in parts of any size; and who writes each."""
    some = draw(st.lists(st.lists(st.sampled_from(spans), min_size=1, max_size=6), max_size=6))
    for trace in by_trace(draw(st.permutations(spans))):
        size = draw(st.integers(1, len(trace)))
        some += [trace[at : at + size] for at in range(0, len(trace), size)]
    order = draw(st.permutations(some))
    return [(delivery, draw(st.integers(0, 3))) for delivery in order]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_batching_repeats_and_writers(data: Any) -> None:
    spans = data.draw(forests())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        whole, pieces = Path(folder, "whole.db"), Path(folder, "pieces.db")
        with contextlib.closing(StoreSink(whole)) as sink:
            sink.write([part_with(trace) for trace in by_trace(spans)])

        shared = closing.enter_context(contextlib.closing(ProjectFiles(pieces)))
        visible = Visible(shared, clock=ManualClock())
        writers = [
            closing.enter_context(contextlib.closing(StoreSink(database)))
            for database in (shared, pieces, pieces)
        ]
        for some, who in data.draw(deliveries(spans)):
            if who < len(writers):
                writers[who].write([part_with(trace) for trace in by_trace(some)])
            else:
                visible.accept(some)
                visible.step()
        for project in PROJECTS:
            expected = content(project_path(whole, project))
            assert content(project_path(pieces, project)) == expected
