from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from afterglow.model.flat import Extra
from afterglow.model.statistics import NameStatistics
from afterglow.store.fold import fold
from afterglow.store.let_go import going_on_bytes, let_go_oldest
from afterglow.store.read import Database
from afterglow.store.schema import initialise
from tests.store.conftest import JournalWriter, row
from tests.store.looking import forget, hexadecimal, look, writing

MAIN = 1


def request(span: int, start: int, *, failed: bool = False) -> list[list[object]]:
    """A request inside main, with a child, from `start` to `start` + 10."""
    extra = Extra(status="error") if failed else None
    return [
        row(span + 1, span, start + 2, start + 6, name="query", trace=MAIN),
        row(span, MAIN, start, start + 10, name="request", trace=MAIN, extra=extra),
    ]


def go_on(writer: JournalWriter, first: int, count: int, **fields: bool) -> None:
    rows = [r for i in range(first, first + count) for r in request(10 * i, 20 * i, **fields)]
    writer.write(*rows, still_open=[row(MAIN, end=None, name="main", trace=MAIN)])
    fold(writer.folder.with_name(writer.folder.name.removesuffix(".d")))


def let_go(database: Path, most: int) -> int:
    with writing(database) as connection:
        return let_go_oldest(connection, most).spans


def figures(database: Path) -> list[NameStatistics]:
    with Database(database) as opened:
        return sorted(opened.statistics(), key=lambda s: s.name)


@pytest.mark.parametrize("portion", [1, 2, 3, 7])
def test_what_a_trace_has_ended_longest_ago_goes_while_it_goes_on(
    tmp_path: Path, portion: int
) -> None:
    """Whatever way they are cut, the figures are those of a file that forgot nothing."""
    all_figures = []
    for forgetting in (False, True):
        database = tmp_path / f"{forgetting}.db"
        writer = JournalWriter(database)
        for turn in range(1, 6):
            go_on(writer, turn * 10, 8)
            look(database)
            if forgetting:
                assert let_go(database, portion) == portion
                assert let_go(database, portion) == portion
        writer.write(row(MAIN, 0, 0, 5_000, name="main", trace=MAIN), still_open=[])
        writer.die()
        all_figures.append(figures(database))
        with Database(database) as opened:
            (audit,) = opened.audit()
            assert audit.agrees
            assert audit.forgotten == ({"quota": 10 * portion} if forgetting else {})
            left = len(list(opened.spans(trace_id=hexadecimal(MAIN))))
            assert left == audit.found  # those left behind are still found by their trace
        if forgetting:
            look(database)
            assert forget(database, [hexadecimal(MAIN)]).spans == audit.found
            all_figures.append(figures(database))
            with closing(initialise(database)) as connection:
                for table in ("let_go", "awaited", "traces", "spans"):
                    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
                    assert found == (0,), table
    assert all_figures[0] == all_figures[1] == all_figures[2]


def test_errors_go_last_and_what_is_pinned_or_has_ended_never(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(900, trace=900))
    go_on(writer, 10, 2, failed=True)
    go_on(writer, 20, 3)
    look(database)
    before = figures(database)
    size = going_on_bytes(database_connection := initialise(database))
    database_connection.close()
    assert size > 0
    assert let_go(database, 100) == 8
    assert let_go(database, 100) == 2
    assert let_go(database, 100) == 0
    assert figures(database) == before
    with closing(initialise(database)) as connection:
        left = [name for (name,) in connection.execute("SELECT name FROM spans ORDER BY name")]
        assert left == ["main", "work"]
        assert going_on_bytes(connection) < size
        connection.execute("UPDATE traces SET pinned = 1")
        assert going_on_bytes(connection) == 0


def test_children_that_overlap_are_not_counted_twice(database: Path, writer: JournalWriter) -> None:
    main = [row(MAIN, end=None, name="main", trace=MAIN)]
    writer.write(
        row(2, MAIN, 0, 100, trace=MAIN), row(3, MAIN, 50, 150, trace=MAIN), still_open=main
    )
    fold(database)
    look(database)
    assert let_go(database, 1) == 1
    assert let_go(database, 1) == 1
    writer.write(row(4, MAIN, 140, 200, trace=MAIN), row(MAIN, 0, 0, 250, name="main", trace=MAIN),
                 still_open=[])  # fmt: skip
    fold(database)
    assert [s.self_ns for s in figures(database) if s.name == "main"] == [50]


def test_a_child_that_ends_after_its_parent_is_found_without_it(
    database: Path, writer: JournalWriter
) -> None:
    main = [row(MAIN, end=None, name="main", trace=MAIN)]
    writer.write(row(2, MAIN, 0, 10, name="request", trace=MAIN), still_open=main)
    writer.write(row(3, 2, 5, 20, name="task", trace=MAIN), row(4, 3, 6, 7, trace=MAIN))
    fold(database)
    look(database)
    before = figures(database)
    assert let_go(database, 1) == 1
    with Database(database) as opened:
        found = [span.name for span in opened.spans(trace_id=hexadecimal(MAIN))]
    assert sorted(found) == ["main", "task", "work"]
    assert figures(database) == before
