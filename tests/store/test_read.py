from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import NotFoundError, SettingError
from afterglow.model.flat import Extra
from afterglow.model.span import Span
from afterglow.store.insert import insert_spans
from afterglow.store.read import Database
from tests.store.conftest import NO_PID, JournalWriter, row

MakeWriter = Callable[..., JournalWriter]


def ids(spans: Iterator[Span]) -> list[int]:
    return [span.span_id for span in spans]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [2, 3, 1, 12, 11, 13]),
        ({"run": "alpha"}, [2, 3, 1]),
        ({"run": "alphab"}, [12, 11, 13]),
        ({"name": "kid"}, [2, 3, 12]),
        ({"name": "kid", "run": "alphabet"}, [12]),
        ({"status": "error"}, [3]),
        ({"status": "unset", "run": "alpha"}, [2, 1]),
        ({"status": "warning"}, [12]),
        ({"status": "interrupted"}, [13]),
        ({"min_duration_ns": 100}, [1, 12, 11]),
        ({"attributes": {"n": 7}}, [2, 12]),  # 7 is 7.0, and not 70 or "7"
        ({"attributes": {"n": 7, "on": True}}, [2]),
        ({"attributes": {"on": 1}}, []),
        ({"attributes": {"on": 1.0}}, []),  # nor is True
        ({"attributes": {"text": "7"}}, [3]),
        ({"limit": 2}, [2, 3]),
        ({"limit": 0}, []),
        ({"slowest": True, "limit": 3}, [11, 12, 1]),
        ({"slowest": True}, [11, 12, 1, 2, 3, 13]),
        ({"attributes": {"n": 7}, "limit": 1, "slowest": True}, [12]),
    ],
)
def test_spans_are_found_by_what_is_asked(
    two_runs: Database, asked: dict[str, Any], found: list[int]
) -> None:
    assert ids(two_runs.spans(**asked)) == found


def test_a_trace_by_its_id(two_runs: Database, make_writer: MakeWriter) -> None:
    span = next(two_runs.spans(name="root", run="alphabet"))
    assert sorted(ids(two_runs.spans(trace_id=span.trace_id))) == [11, 12]
    assert sorted(ids(two_runs.spans(trace_id=f"{span.trace_id:x}"))) == [11, 12]
    assert ids(two_runs.spans(trace_id=span.trace_id, name="kid")) == [12]
    assert ids(two_runs.spans(trace_id=5)) == []
    for nonsense in ("xyz", -1, 1 << 128):
        with pytest.raises(SettingError, match="hexadecimal"):
            two_runs.spans(trace_id=nonsense)
    # Whose root is elsewhere, or was lost.
    writer = make_writer(run_id="other")
    foreign = b"\xab" * 16
    writer.write(
        row(22, 21, trace=foreign),
        row(21, 5, trace=foreign, extra=Extra(remote_parent=True)),
        row(24, 23, trace=foreign),
        row(25, 24, trace=foreign),
        row(26, 25, trace=b"\xac" * 16),
    )
    with Database(two_runs.path) as opened:
        assert sorted(ids(opened.spans(trace_id="ab" * 16))) == [21, 22, 24, 25]


def test_runs_have_names(two_runs: Database) -> None:
    assert [run.run_id for run in two_runs.runs()] == ["alpha", "alphabet"]
    assert ids(two_runs.spans(run="alpha")) == [2, 3, 1]  # whole, though another begins with it
    assert two_runs.processes("latest")[0].pid in (NO_PID, NO_PID + 1)
    for unknown in ("alp", "x", ""):
        for ask in (two_runs.spans, two_runs.statistics, two_runs.ledger, two_runs.counts,
                    two_runs.processes, two_runs.audit, two_runs.traces):  # fmt: skip
            with pytest.raises(NotFoundError, match="alpha"):
                ask(run=unknown)


def test_a_file_without_runs(database: Path) -> None:
    database.with_name(database.name + ".d").mkdir()
    with Database(database) as opened:
        assert opened.runs() == []
        assert list(opened.spans()) == []
        assert list(opened.traces()) == []
        assert opened.statistics() == []
        assert opened.ledger()["recorded"] == 0
        with pytest.raises(NotFoundError, match="no run yet"):
            opened.statistics(run="latest")


def test_statistics_of_a_run(two_runs: Database) -> None:
    root, kid = two_runs.statistics(run="alpha")
    assert (root.name, root.count, root.total_ns, root.self_ns) == ("root", 1, 100, 65)
    assert (kid.name, kid.count, kid.total_ns, kid.self_ns, kid.errors) == ("kid", 2, 35, 35, 1)
    assert (kid.min_ns, kid.max_ns, kid.p50_ns, kid.p99_ns) == (5, 30, 5, 30)
    assert (kid.mean_ns, kid.error_rate) == (17.5, 0.5)
    everything = {s.name: s for s in two_runs.statistics()}
    assert everything["kid"].count == 3
    assert (everything["open"].count, everything["open"].interrupted) == (0, 1)
    assert [s.name for s in two_runs.statistics(name="kid")] == ["kid"]


def test_traces_slowest_first(two_runs: Database) -> None:
    roots = list(two_runs.traces())
    assert [(r.span.span_id, r.self_ns) for r in roots] == [(11, 500), (13, None), (1, 65)]
    (first, second) = roots[2].children
    assert (first.span.span_id, second.span.span_id) == (2, 3)
    assert len(roots[2].children) == 2
    assert roots[2].children[1].span.span_id == 3
    assert roots[2].children[-1].span.span_id == 3
    assert [n.span.span_id for n in roots[2].children[:1]] == [2]
    with pytest.raises(IndexError):
        roots[2].children[2]
    assert [r.span.span_id for r in two_runs.traces(run="alpha")] == [1]
    assert [r.span.span_id for r in two_runs.traces(limit=1)] == [11]
    assert list(two_runs.traces(limit=0)) == []


def test_a_root_without_an_end_counts_as_long_as_it_was_heard_of(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(
        row(2, 1, start=5, end=900), row(3, 0, start=0, end=50),
        still_open=[row(1, start=0, end=None)],
    )  # fmt: skip
    with Database(database) as opened:
        assert [r.span.span_id for r in opened.traces()] == [1, 3]


def test_a_parent_in_another_run_makes_a_root_of_that_run(
    database: Path, make_writer: MakeWriter
) -> None:
    trace = b"\7" * 16
    caller, called = make_writer(run_id="caller"), make_writer(run_id="called", pid=NO_PID + 1)
    caller.write(row(1, 0, 0, 100, trace=trace))
    called.write(row(2, 1, 10, 30, trace=trace, extra=Extra(remote_parent=True)))
    with Database(database) as opened:
        assert [[n.span.span_id for _, n in r.walk()] for r in opened.traces()] == [[1, 2]]
        assert [r.span.span_id for r in opened.traces(run="called")] == [2]
        assert [r.span.span_id for r in opened.traces(run="caller")] == [1]


def test_a_trace_ten_thousand_deep_and_one_as_wide(database: Path, writer: JournalWriter) -> None:
    n = 10_000
    writer.write(*(row(i, i - 1, i, 3 * n - i, trace=1) for i in range(n, 0, -1)))
    writer.write(
        *(row(n + i, n + 1 if i > 1 else 0, i, i + 1, trace=2) for i in range(2, n)),
        row(n + 1, 0, 0, n + 1, trace=2),
    )
    with Database(database) as opened:
        deep, wide = opened.traces()
        assert max(depth for depth, _ in deep.walk()) == n - 1
        assert sum(1 for _ in wide.walk()) == n - 1
        assert wide.self_ns == 3


def test_many_roots_or_few_are_found_alike(database: Path, writer: JournalWriter) -> None:
    # Few are found by their index, many by reading all: here it turns from one to the other.
    for i in range(1, 60):
        writer.write(row(i, 0 if i % 3 else 1, 0, i, trace=i if i % 3 else 1))
        with Database(database) as opened:
            expected = sorted((k for k in range(1, i + 1) if k % 3), reverse=True)
            assert [r.span.span_id for r in opened.traces()] == expected
    writer.write(*(row(100 + i, 1, 0, 1) for i in range(2_000)))
    with Database(database) as opened:
        assert [r.span.span_id for r in opened.traces()] == expected


# --- with the real writer, and from elsewhere ---------------------------------------------


def test_what_a_tracer_wrote_is_read_while_it_lives(database: Path) -> None:
    with_tracer = afterglow.Tracer(database, run_id="live")
    try:
        with with_tracer.span("outer", n=1), with_tracer.span("inner"):
            pass
        with afterglow.open(database) as opened:
            (root,) = opened.traces(run="live")
            assert [(d, n.span.name) for d, n in root.walk()] == [(0, "outer"), (1, "inner")]
            assert opened.runs()[0].state == "running"
    finally:
        with_tracer.close()
    with afterglow.open(database) as opened:
        assert opened.runs()[0].state == "finished"
        (audit,) = opened.audit()
        assert audit.agrees
        assert audit.ledger == with_tracer.ledger()
    assert list(database.parent.iterdir()) == [database]


def test_spans_from_elsewhere_come_once(database: Path, writer: JournalWriter) -> None:
    spans = [
        Span(trace_id=9, span_id=2, parent_span_id=1, name="kid", start_ns=5, end_ns=8,
             attributes={"a": [1]}, trace_flags=0, status="error"),
        Span(trace_id=9, span_id=3, parent_span_id=3, name="own parent", start_ns=1, end_ns=2),
        Span(trace_id=9, span_id=4, parent_span_id=7, name="orphan", start_ns=1, end_ns=None),
        Span(trace_id=9, span_id=1, name="root", start_ns=0, end_ns=10),
    ]  # fmt: skip
    assert insert_spans(database, iter(spans), writer.process) == 4
    assert insert_spans(database, iter(spans), writer.process) == 0
    writer.die()
    with Database(database) as opened:
        (run,) = opened.runs()
        assert (run.state, run.spans, run.errors, run.interrupted_spans) == ("finished", 3, 1, 1)
        found = next(opened.spans(name="kid"))
        assert (found.attributes, found.trace_flags, found.run_id) == ({"a": [1]}, 0, "run")
        assert sorted(r.span.span_id for r in opened.traces()) == [1, 3, 4]
        assert opened.statistics(name="root")[0].self_ns == 7
        (audit,) = opened.audit()
        assert audit.agrees


def test_an_import_that_fails_leaves_nothing(database: Path, writer: JournalWriter) -> None:
    def spans() -> Iterator[Span]:
        yield Span(trace_id=9, span_id=2, name="kid", start_ns=5, end_ns=8)
        raise KeyError("file broken")

    with pytest.raises(KeyError):
        insert_spans(database, spans(), writer.process)
    assert insert_spans(database, [], writer.process) == 0
    with Database(database) as opened:
        assert list(opened.spans()) == []
