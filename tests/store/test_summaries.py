from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from afterglow.model.flat import Extra
from afterglow.store import summaries
from afterglow.store.fold import fold
from afterglow.store.schema import initialise
from afterglow.store.summaries import (
    changed_traces,
    histories,
    mark_entered,
    set_pinned,
    summarise,
)
from tests.store.conftest import NO_PID, OFFSET_NS, JournalWriter, row
from tests.store.looking import forget, hexadecimal, look, writing

MakeWriter = Callable[..., JournalWriter]

ERROR = Extra(status="error")


def test_a_trace_is_one_row_however_many_folds_it_comes_in(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(2, 1, 10, 20, name="kid", extra=ERROR))
    fold(database)
    (first,) = look(database)
    assert (first.spans, first.errors, first.duration_ns, first.going_on) == (1, 1, None, True)
    writer.write(row(3, 1, 20, 30, name="kid"), row(1, 0, 5, 40, name="root"))
    fold(database)
    (whole,) = look(database)
    assert (whole.trace_id, whole.name) == (hexadecimal(1), "root")
    assert (whole.spans, whole.errors, whole.duration_ns, whole.going_on) == (3, 1, 35, False)
    assert (whole.start_ns, whole.end_ns) == (OFFSET_NS + 5, OFFSET_NS + 40)
    assert look(database) == []


def test_a_trace_of_many_processes_is_one_row_and_its_true_root_names_it(
    database: Path, make_writer: MakeWriter
) -> None:
    trace = b"\x07" * 16
    here, there = make_writer(), make_writer(run_id="other", pid=NO_PID + 1)
    remote = Extra(remote_parent=True)
    there.write(row(21, 11, 3, 4, name="served", trace=trace, extra=remote))
    fold(database)
    assert [(t.name, t.duration_ns) for t in look(database)] == [("served", 1)]
    here.write(row(11, 0, 0, 9, name="asked", trace=trace))
    fold(database)
    assert [(t.name, t.duration_ns, t.spans) for t in look(database)] == [("asked", 9, 2)]
    # The other way round, too: what is known of a true root is not overwritten.
    there.write(row(22, 11, 5, 6, name="served again", trace=trace, extra=remote))
    fold(database)
    assert [(t.name, t.duration_ns, t.spans) for t in look(database)] == [("asked", 9, 3)]


def test_open_spans_are_counted_once_they_have_ended(database: Path, writer: JournalWriter) -> None:
    writer.write(row(2, 1, 0, 5), still_open=[row(1, end=None, name="root")])
    for _ in range(3):  # each fold deletes and inserts it
        fold(database)
        look(database)
        writer.write(still_open=[row(1, end=None, name="root")])
    writer.write(row(1, 0, 0, 50, name="root"), still_open=[])
    fold(database)
    (trace,) = look(database)
    assert (trace.spans, trace.duration_ns, trace.going_on) == (2, 50, False)


def test_a_trace_of_a_process_that_died_does_not_go_on(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(2, 1, 0, 5), still_open=[row(1, end=None, name="root")])
    fold(database)
    assert [trace.going_on for trace in look(database)] == [True]
    writer.die()
    fold(database)
    assert [(t.going_on, t.name, t.duration_ns) for t in look(database)] == [(False, "root", None)]


def test_ids_never_come_again(database: Path, writer: JournalWriter) -> None:
    """Else rows that come after the last ones were forgotten would never be looked at."""
    writer.write(row(1))
    writer.write(row(2, trace=2))
    fold(database)
    look(database)
    assert forget(database, [hexadecimal(2)]).spans == 1
    writer.write(row(3, trace=3))
    fold(database)
    assert [trace.trace_id for trace in look(database)] == [hexadecimal(3)]


def test_a_look_reads_new_rows_in_portions(database: Path, writer: JournalWriter) -> None:
    writer.write(*(row(span, trace=span) for span in range(1, 8)))
    fold(database)
    with writing(database) as connection:
        assert [summarise(connection, 3).spans for _ in range(4)] == [3, 3, 1, 0]
        assert connection.execute("SELECT count(*) FROM traces").fetchone() == (7,)


def usual(database: Path, *names: str) -> dict[str, tuple[int, int]]:
    with closing(initialise(database)) as connection:
        found = histories(connection, [("", name) for name in names])
    return {name: (h.traces, round(h.p50_ns)) for (_, name), h in found.items()}


def test_what_is_usual_is_kept_by_name(database: Path, writer: JournalWriter) -> None:
    for span in range(1, 11):
        writer.write(row(span, trace=span, start=0, end=100 + span % 2, name="get"))
        writer.write(row(100 + span, 50, 0, 9, name="inner", trace=span))
    fold(database)
    look(database)
    writer.write(row(99, trace=99, end=1_000, name="put"))
    fold(database)
    look(database)
    assert usual(database, "get", "put", "inner") == {"get": (10, 100), "put": (1, 1002)}
    # It outlives the traces that it was learnt from.
    forget(database, [hexadecimal(span) for span in range(1, 11)])
    assert usual(database, "get") == {"get": (10, 100)}


def test_the_past_counts_less(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "_LONG_HISTORY", 10)
    for span in range(1, 41):
        writer.write(row(span, trace=span, end=100 if span <= 10 else 200, name="get"))
        fold(database)
        look(database)
    # Not 40, with as many of 100 as of 200: half of the past went whenever there were ten.
    traces, median_ns = usual(database, "get")["get"]
    assert traces <= 10
    assert median_ns == 200


def test_names_are_bounded(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "_MOST_NAMES", 10)
    for span in range(1, 21):
        writer.write(row(span, trace=span, end=span, name=f"user {span}"))
    fold(database)
    look(database)
    assert sorted(usual(database, *(f"user {n}" for n in range(21)))) == sorted(
        f"user {n}" for n in range(12, 21)
    )


def test_a_trace_that_changed_while_its_entry_was_made_is_entered_again(
    database: Path, writer: JournalWriter
) -> None:
    """Two look at once: the one that was slower wrote its entry over the other's."""
    writer.write(row(1))
    fold(database)
    with writing(database) as connection:
        summarise(connection, 100)
        (seen,) = changed_traces(connection, 10)
        set_pinned(connection, seen.trace_id, True)
        (now,) = changed_traces(connection, 10)
        mark_entered(connection, [(now, "pinned", "")])
        assert changed_traces(connection, 10) == []
        mark_entered(connection, [(seen, "normal", "")])
        assert changed_traces(connection, 10) == [now]
