"""The file: brought up to date, shared with recorded spans, removed from in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import NewerStoreError
from afterglow.keep.profile import Kind, Profile
from afterglow.keep.sqlite import sql
from afterglow.keep.sqlite.backend import SqliteBackend
from afterglow.keep.store import TraceStore
from afterglow.store import schema

FAST = Profile(name="fast", kinds={"half": Kind(0.7, 0.8, "exponential")})


def of_version_1(database: Path) -> None:
    """A file as the first version left it."""
    (first, text), *_ = schema._migrations()
    assert first == 1
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(text)
        connection.execute("INSERT INTO folded VALUES ('j', 'f', NULL, 1, 2, 0, 0, 0)")
        connection.execute("PRAGMA user_version=1")
        connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        connection.commit()


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    of_version_1(database)
    with afterglow.TraceStore(database, maintenance=False) as store:
        store.store(1, kind="semantic", trace_id="a")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert connection.execute("SELECT seq FROM folded").fetchall() == [(1,)]
    with afterglow.TraceStore(database, maintenance=False) as store:
        assert store.get("a") is not None


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    afterglow.TraceStore(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version=99")
        connection.commit()
    with pytest.raises(NewerStoreError, match="upgrade"):
        afterglow.TraceStore(database)


def test_spans_and_entries_live_in_one_file(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with afterglow.Tracer(database) as tracer, tracer.span("work"):
        pass
    with afterglow.TraceStore(database, maintenance=False) as store:
        store.store(1, kind="semantic", trace_id="a")
        store.flush()
        with afterglow.open(database) as opened:
            assert [span.name for span in opened.spans()] == ["work"]
        assert store.count() == 1


def noting(connection: Any, ids: Sequence[str]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS removed (trace_id)")
    connection.executemany("INSERT INTO removed VALUES (?)", [(i,) for i in ids])


def removed(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(i for (i,) in connection.execute("SELECT trace_id FROM removed"))


def test_who_is_told_of_removals_is_told_in_the_transaction(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with afterglow.TraceStore(
        database, profile=FAST, maintenance=False, on_removed=noting
    ) as store:
        for name in ("pruned", "evicted", "erased", "deleted", "again"):
            store.store(1, kind="half", trace_id=name)
            store.flush()
            if name == "pruned":
                store.decay_cycle(ticks=10)
            elif name == "evicted":
                store.enforce_quota(max_entries=0)
            elif name == "erased":
                store.erase_by_kind("half")
            else:
                store.delete(name)
                if name == "again":
                    store.store(2, kind="half", trace_id=name)
                store.flush()
        assert removed(database) == ["deleted", "erased", "evicted", "pruned"]
        assert store.count() == 1


def test_a_removal_that_cannot_be_told_does_not_happen(tmp_path: Path) -> None:
    def failing(connection: Any, ids: Sequence[str]) -> None:
        noting(connection, ids)
        connection.execute("SELECT * FROM nothing")

    database = tmp_path / "x.db"
    store = afterglow.TraceStore(database, profile=FAST, maintenance=False, on_removed=failing)
    store.store(1, kind="half", trace_id="a")
    store.flush()
    with pytest.raises(afterglow.AfterglowError, match="nothing"):
        store.decay_cycle(ticks=10)
    assert store.count() == 1
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'removed'")
        assert tables.fetchall() == []
    store.close()


def test_without_mathematics_in_sqlite_python_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "HAS_MATHEMATICS", "SELECT no_such_function(1)")
    backend = SqliteBackend(tmp_path / "x.db", "default")
    with TraceStore(backend, maintenance=False) as store:
        for kind in ("semantic", "identity", "trust"):
            store.store(1, kind=kind, trace_id=kind)
        store.flush()
        assert [entry.trace_id for entry in store.all(limit=2)] == ["identity", "semantic"]
