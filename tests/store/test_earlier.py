from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from afterglow.model.flat import Extra
from afterglow.model.statistics import NameStatistics
from afterglow.store import earlier
from afterglow.store.earlier import EARLIER, OTHER_NAMES, merge_names, merge_runs
from afterglow.store.fold import fold
from afterglow.store.read import Database
from afterglow.store.schema import initialise
from tests.store.conftest import NO_PID, JournalWriter, row
from tests.store.looking import forget, look, writing

MakeWriter = Callable[..., JournalWriter]


def figures(database: Path, run: str | None = None) -> list[NameStatistics]:
    with Database(database) as opened:
        return sorted(opened.statistics(run=run), key=lambda s: s.name)


def jobs(database: Path, make_writer: MakeWriter, first: int, count: int) -> None:
    """So many short runs, each of a process that has ended."""
    for number in range(first, first + count):
        writer = make_writer(run_id=f"job-{number:03d}", pid=NO_PID + number)
        extra = Extra(status="error") if number % 2 else None
        writer.write(
            row(10 * number + 2, 10 * number + 1, 0, number, name="kid", trace=number),
            row(10 * number + 1, 0, 0, 2 * number + 1, name="job", trace=number, extra=extra),
        )
        writer.die()
        fold(database)


def forget_all(database: Path) -> None:
    look(database)
    with closing(initialise(database)) as connection:
        ids = [trace for (trace,) in connection.execute("SELECT trace_id FROM traces")]
    forget(database, ids)


def merge(database: Path, most: int) -> int:
    with writing(database) as connection:
        return merge_runs(connection, most)


def runs(database: Path) -> dict[str, tuple[int, int]]:
    with Database(database) as opened:
        assert all(audit.agrees for audit in opened.audit())
        return {run.run_id: (run.spans, run.errors) for run in opened.runs()}


def test_runs_of_which_nothing_is_left_become_one(database: Path, make_writer: MakeWriter) -> None:
    jobs(database, make_writer, 1, 6)
    forget_all(database)
    jobs(database, make_writer, 7, 2)
    before, books = figures(database), Database(database)
    with books:
        ledger = books.ledger()
    assert merge(database, 100) == 0
    assert merge(database, 4) == 4
    assert merge(database, 4) == 0
    assert runs(database) == {
        EARLIER: (8, 2), "job-005": (2, 1), "job-006": (2, 0), "job-007": (2, 1),
        "job-008": (2, 0),
    }  # fmt: skip
    assert figures(database) == before
    assert [s.count for s in figures(database, EARLIER)] == [4, 4]
    with Database(database) as opened:
        assert opened.ledger() == ledger
    # And again, into the same one; what is left in the file stays its own run.
    assert merge(database, 1) == 2
    assert sorted(runs(database)) == [EARLIER, "job-007", "job-008"]
    assert runs(database)[EARLIER] == (12, 3)
    assert figures(database) == before


def test_a_run_that_may_go_on_stays(database: Path, make_writer: MakeWriter) -> None:
    living = make_writer(run_id="living", pid=NO_PID)
    living.write(row(5, trace=5), still_open=[row(6, end=None, name="open", trace=6)])
    idle = make_writer(run_id="idle", pid=NO_PID + 99)
    idle.write(row(7, trace=7))
    idle.rotate()  # its first journal goes; the process lives
    jobs(database, make_writer, 1, 3)
    forget_all(database)
    while merge(database, 1):
        pass
    assert sorted(runs(database)) == [EARLIER, "idle", "living"]
    living.write(row(6, trace=6), still_open=[])
    fold(database)
    assert runs(database)["living"] == (2, 0)


def test_names_beyond_number_are_added_up(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "_MOST_NAMES", 10)
    for number in range(30):
        often = [row(1_000 + number * 10 + k, trace=1_000 + number * 10 + k, name="usual")
                 for k in range(3)]  # fmt: skip
        writer.write(row(number + 1, trace=number + 1, name=f"user {number}"), *often)
    fold(database)
    forget_all(database)
    before = figures(database)
    with writing(database) as connection:
        assert merge_names(connection) == 26
        assert merge_names(connection) == 0
    after = figures(database)
    assert len(after) == 6
    assert {s.name for s in after} > {"usual", OTHER_NAMES}
    for sums in ("count", "total_ns", "self_ns"):
        assert sum(getattr(s, sums) for s in after) == sum(getattr(s, sums) for s in before)
    assert [s.count for s in after if s.name == "usual"] == [90]
