"""Profilers over everything that they can record into."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.analyse.profile import AggregatedStats, TraceNode

HAS_BEAVER = importlib.util.find_spec("beaver") is not None

# As beaver-db 1.3 and 2.4 make it; enough of it to be written and read.
BEAVER_LOGS = """
    CREATE TABLE {table} (
        log_name TEXT NOT NULL, timestamp REAL NOT NULL, data TEXT NOT NULL,
        PRIMARY KEY (log_name, timestamp));
    CREATE INDEX idx_logs_timestamp ON {table} (log_name, timestamp);
"""


def make_beaver_file(path: Path, table: str = "__beaver_logs__") -> Path:
    """A BeaverDB with no logs, without beaver-db."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(BEAVER_LOGS.format(table=table))
    connection.close()
    return path


class Bench:
    """Makes Profilers that record into one place, and Reports that read it."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._profilers: list[afterglow.Profiler] = []

    def profiler(self, run_id: str | None = "run", **arguments: Any) -> afterglow.Profiler:
        made = afterglow.Profiler(self._db, run_id=run_id, **arguments)
        self._profilers.append(made)
        return made

    def report(self, **arguments: Any) -> afterglow.Report:
        return afterglow.Report(self._profilers[0].db, **arguments)

    def stats(self, run_id: str = "run") -> dict[str, AggregatedStats]:
        return self.report().analyze_run(run_id)

    def roots(self, run_id: str = "run") -> list[TraceNode]:
        return self.report().build_trees(run_id)

    def root(self) -> TraceNode:
        (root,) = self.roots()
        return root

    def close(self) -> None:
        for profiler in self._profilers:
            profiler.close()
            books = profiler.ledger()
            assert books["in_flight"] == 0
            assert books["recorded"] == books["written"] + sum(books["dropped"].values())


PLACES = ["memory", "file", "beaver file", "BeaverDB"]


@pytest.fixture(params=PLACES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from _benches(request.param, tmp_path)


@pytest.fixture(params=[place for place in PLACES if place != "memory"])
def file_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from _benches(request.param, tmp_path)


def _benches(place: str, tmp_path: Path) -> Iterator[Bench]:
    db: Any = str(tmp_path / "spans.db")
    if place == "memory":
        db = ":memory:"
    elif place == "beaver file":
        make_beaver_file(Path(db))
    elif place == "BeaverDB":
        if not HAS_BEAVER:
            pytest.skip("beaver-db needs Python 3.13")
        from beaver import BeaverDB

        db = BeaverDB(db)
    bench = Bench(db)
    yield bench
    bench.close()
    if place == "BeaverDB":
        close_beaver(db)


def close_beaver(db: Any) -> None:
    """Close it, and the event loop that beaver-db 2 leaves open."""
    db.close()
    if hasattr(db, "_loop"):
        db._loop.close()
