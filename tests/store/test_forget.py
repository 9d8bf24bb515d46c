from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.model.flat import Extra, FlatLink
from afterglow.model.span import Event
from afterglow.model.statistics import NameStatistics
from afterglow.store.fold import fold
from afterglow.store.read import Database
from afterglow.store.schema import initialise
from tests.store.conftest import NO_PID, JournalWriter, row
from tests.store.looking import forget, hexadecimal, look

MakeWriter = Callable[..., JournalWriter]


def figures(database: Path, run: str | None = None) -> list[NameStatistics]:
    with Database(database) as opened:
        return opened.statistics(run=run)


def sizes(database: Path) -> dict[str, int]:
    with closing(initialise(database)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("spans", "events", "links", "awaited", "traces")
        }


def rich(span: int, trace: int, end: int, name: str = "work") -> list[object]:
    extra = Extra(
        status="error",
        events=[Event("e", 1, {}, 0)],
        links=[FlatLink(b"\1" * 16, 1, "", {}, 0)],
    )
    return row(span, 0, 0, end, name=name, trace=trace, extra=extra)


def test_all_that_belongs_to_a_trace_goes_and_its_figures_stay(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(rich(1, 1, 100), rich(2, 2, 300), row(3, 2, 0, 50, name="kid", trace=2))
    fold(database)
    look(database)
    before = figures(database)
    assert forget(database, [hexadecimal(2), "f" * 32]).spans == 2
    assert sizes(database) == {"spans": 1, "events": 1, "links": 1, "awaited": 0, "traces": 1}
    assert figures(database) == before
    assert figures(database, run="run") == before
    with Database(database) as opened:
        assert opened.statistics(name="kid") == [s for s in before if s.name == "kid"]
        assert [run.spans for run in opened.runs()] == [3]
        (audit,) = opened.audit()
        assert (audit.found, audit.forgotten, audit.missing) == (1, {"faded": 2}, 0)
        assert audit.agrees
    # Twice is no more than once.
    assert forget(database, [hexadecimal(2)], "asked").traces == 0


def test_what_was_forgotten_in_portions_adds_up(database: Path, writer: JournalWriter) -> None:
    for trace in range(1, 31):
        writer.write(row(trace, trace=trace, end=trace * trace * 1_000))
    fold(database)
    look(database)
    before = figures(database)
    for trace in range(1, 31):
        forget(database, [hexadecimal(trace)], "faded" if trace % 3 else "quota")
        assert figures(database) == before
    with Database(database) as opened:
        assert opened.audit()[0].forgotten == {"faded": 20, "quota": 10}


def test_totals_beyond_64_bits_stay_exact(database: Path, writer: JournalWriter) -> None:
    long = (1 << 62) + 7
    for trace in range(1, 7):
        writer.write(row(trace, trace=trace, start=-long, end=0))
    fold(database)
    look(database)
    for trace in range(1, 7):
        forget(database, [hexadecimal(trace)])
    (name,) = figures(database)
    assert (name.total_ns, name.self_ns, name.max_ns) == (6 * long, 6 * long, long)


def test_what_a_living_process_has_open_stays(database: Path, writer: JournalWriter) -> None:
    writer.write(row(2, 1, 0, 5, name="kid"), still_open=[row(1, end=None, name="root")])
    fold(database)
    look(database)
    forget(database, [hexadecimal(1)])
    assert sizes(database)["spans"] == 1
    assert [trace.going_on for trace in look(database)] == [True]
    writer.write(row(1, 0, 0, 50, name="root"), still_open=[])
    fold(database)
    (trace,) = look(database)
    assert (trace.spans, trace.duration_ns) == (1, 50)
    assert {s.name: (s.count, s.interrupted) for s in figures(database)} == {
        "root": (1, 0),
        "kid": (1, 0),
    }


def test_interrupted_spans_are_counted_on(database: Path, writer: JournalWriter) -> None:
    writer.write(row(2, 1, 0, 5, name="kid"), still_open=[row(1, end=None, name="root")])
    writer.die()
    fold(database)
    look(database)
    before = figures(database)
    assert {s.name: s.interrupted for s in before} == {"root": 1, "kid": 0}
    forget(database, [hexadecimal(1)])
    assert sizes(database)["spans"] == 0
    assert figures(database) == before
    with Database(database) as opened:
        assert [run.interrupted_spans for run in opened.runs()] == [1]
        assert opened.audit()[0].agrees


def test_spans_that_lie_far_apart_are_found(database: Path, writer: JournalWriter) -> None:
    """By parents and children, or, where the way between them is cut, by reading all."""
    writer.write(row(2, 1, 0, 5), row(3, 99, 0, 5, name="orphan"))
    circle = row(40, 41, 0, 5, trace=2), row(41, 40, 0, 5, trace=2)
    writer.write(*circle)
    writer.write(*(row(span, trace=span) for span in range(1_000, 5_000)))
    writer.write(row(1, 0, 0, 50, name="root"), row(42, 0, 0, 5, trace=2))
    fold(database)
    look(database)
    before = figures(database)
    assert forget(database, [hexadecimal(1), hexadecimal(2)]).spans == 6
    assert sizes(database) == {
        "spans": 4_000, "events": 0, "links": 0, "awaited": 0, "traces": 4_000
    }  # fmt: skip
    assert figures(database) == before


def test_late_spans_of_a_forgotten_trace_make_it_anew(
    database: Path, make_writer: MakeWriter
) -> None:
    trace = b"\x07" * 16
    here, there = make_writer(), make_writer(run_id="other", pid=NO_PID + 1)
    here.write(row(11, 0, 0, 9, name="asked", trace=trace))
    fold(database)
    (found,) = look(database)
    forget(database, [found.trace_id])
    there.write(row(21, 11, 3, 4, name="served", trace=trace, extra=Extra(remote_parent=True)))
    fold(database)
    (again,) = look(database)
    assert (again.trace_id, again.spans, again.name) == (found.trace_id, 1, "served")
    with Database(database) as opened:
        assert [span.name for span in opened.spans(trace_id=found.trace_id)] == ["served"]
        assert all(audit.agrees for audit in opened.audit())


# --- any sequence of folds and forgets ----------------------------------------------------


@contextmanager
def _pair() -> Iterator[list[tuple[Path, dict[str, JournalWriter]]]]:
    """Two databases that get the same journals."""
    with TemporaryDirectory() as folder:
        made: list[tuple[Path, dict[str, JournalWriter]]] = []
        for which in ("kept", "faded"):
            database = Path(folder) / f"{which}.db"
            writers = {
                run: JournalWriter(database, run_id=run, pid=NO_PID + number)
                for number, run in enumerate(("one", "two"))
            }
            made.append((database, writers))
        yield made
        for _, writers in made:
            for writer in writers.values():
                writer.die()


def _batches(chance: random.Random, steps: int) -> Iterator[tuple[str, list[list[object]]]]:
    """Batches of traces as programs end them (children first), cut and mixed at random."""
    waiting: list[list[object]] = []
    span = 1
    for _ in range(steps):
        for _ in range(chance.randrange(4)):
            root, kids = span, chance.randrange(5)
            span += kids + 1
            for kid in range(kids):
                status = Extra(status="error") if chance.random() < 0.2 else None
                length = int(2 ** (chance.random() * 40))
                waiting.append(
                    row(root + kid + 1, root, 0, length, name=chance.choice("abc"), trace=root,
                        extra=status)
                )  # fmt: skip
            waiting.append(row(root, 0, 0, 1 << 41, name=chance.choice("abr"), trace=root))
        count = chance.randrange(len(waiting) + 1)
        batch, waiting = waiting[:count], waiting[count:]
        yield chance.choice(("one", "two")) if not waiting else "one", batch


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 12))
def test_statistics_do_not_know_what_was_forgotten(seed: int, steps: int) -> None:
    chance = random.Random(seed)
    with _pair() as pair:
        (kept, _), (faded, _) = pair
        gone = 0
        for run, batch in _batches(chance, steps):
            for _, writers in pair:
                writers[run].write(*batch)
            if chance.random() < 0.5:
                fold(faded)
                look(faded, portion=chance.choice((1, 3, 1_000)))
                with closing(initialise(faded)) as connection:
                    ids = [i for (i,) in connection.execute(
                        "SELECT trace_id FROM traces WHERE going_on = 0")]  # fmt: skip
                chosen = [i for i in ids if chance.random() < 0.5]
                gone += forget(faded, chosen, "faded").spans
        for run in (None, "one", "two"):
            assert _of(kept, run) == _of(faded, run)
        with Database(faded) as opened:
            audits = opened.audit()
            assert all(audit.agrees for audit in audits)
            assert sum(audit.found for audit in audits) + gone == sum(
                audit.ledger["written"] for audit in audits
            )
        with Database(kept) as control, Database(faded) as opened:
            assert [r.spans for r in control.runs()] == [r.spans for r in opened.runs()]


def _of(database: Path, run: str | None) -> list[NameStatistics]:
    with Database(database) as opened:
        if run is not None and run not in {r.run_id for r in opened.runs()}:
            return []
        return sorted(opened.statistics(run=run), key=lambda s: s.name)


@pytest.mark.parametrize("why", ["faded", "quota", "asked"])
def test_each_reason_is_counted_in_the_ledger(
    database: Path, writer: JournalWriter, why: str
) -> None:
    writer.write(row(1), row(2, trace=2))
    fold(database)
    look(database)
    forget(database, [hexadecimal(1)], why)  # type: ignore[arg-type]
    writer.write(row(3, trace=3))  # newer books replace older ones, but not this
    with Database(database) as opened:
        assert opened.audit()[0].forgotten == {why: 1}
    with closing(initialise(database)) as connection:
        found = connection.execute("SELECT value FROM keeping WHERE key = ?", (f"forgotten_{why}",))
        assert found.fetchone() == (1,)
