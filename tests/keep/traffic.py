"""A service that records requests day after day, by hand: time is a clock that tests move."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from afterglow.keep.retention import Retention
from afterglow.model.flat import Extra, Flat, widen
from afterglow.model.span import trace_id_hex
from afterglow.store.read import Database
from afterglow.store.schema import initialise
from afterglow.testing import ManualClock
from tests.store.conftest import NO_PID, OFFSET_NS, SEED, JournalWriter, row

DAY_NS = 86_400 * 10**9
MS = 1_000_000


class Service:
    """Records traces of one root and some children, at the time of its clock."""

    def __init__(self, database: Path, clock: ManualClock, *, run_id: str = "service") -> None:
        self.database = database
        self.clock = clock
        self.chance = random.Random(7)
        self._span = 1
        self._runs = 0
        self._run_id = run_id
        self.writer = self._begin()

    def _begin(self) -> JournalWriter:
        self._runs += 1
        name = f"{self._run_id}{self._runs}"
        return JournalWriter(self.database, run_id=name, pid=NO_PID + self._runs)

    def restart(self) -> None:
        self.writer.die()
        self.writer = self._begin()

    def trace(
        self,
        name: str = "GET /",
        *,
        ms: float = 10,
        kids: int = 3,
        failed: bool = False,
        **fields: Any,
    ) -> tuple[str, list[Flat]]:
        """The id of a trace that ends now, and its rows."""
        root, now = self._span, self.clock.wall_ns() - OFFSET_NS
        self._span += kids + 1
        start = now - int(ms * MS)
        rows = [
            row(root + kid + 1, root, start, start + int(ms * MS) // (kids + 1), name=f"kid {kid}",
                trace=root, attributes={"filler": "x" * self.chance.randrange(80)})
            for kid in range(kids)
        ]  # fmt: skip
        extra = Extra(status="error") if failed else fields.pop("extra", None)
        rows.append(row(root, 0, start, now, name=name, trace=root, extra=extra, **fields))
        return trace_id_hex(widen(SEED, root)), rows

    def record(self, count: int = 1, name: str = "GET /", **fields: Any) -> list[str]:
        """So many traces in one batch; their ids. Around 10 ms, unless `ms` says otherwise."""
        ids, rows = [], []
        for _ in range(count):
            given = {"ms": 10 * self.chance.uniform(0.8, 1.2)} | fields
            trace, some = self.trace(name, **given)
            ids.append(trace)
            rows += some
        self.writer.write(*rows)
        return ids


@contextmanager
def retention(service: Service, config: Any = None) -> Iterator[Retention]:
    with Retention(service.database, config, clock=service.clock) as opened:
        yield opened


def kinds(database: Path) -> dict[str, str]:
    """The kind of each trace in the file, by id."""
    with closing(initialise(database)) as connection:
        return dict(connection.execute("SELECT trace_id, kind FROM traces"))


def entries(database: Path) -> dict[str, str]:
    """The kind of each entry."""
    with closing(initialise(database)) as connection:
        return dict(connection.execute("SELECT trace_id, kind FROM entries"))


def traces_with_spans(database: Path) -> set[str]:
    with closing(initialise(database)) as connection:
        return {trace for (trace,) in connection.execute("SELECT DISTINCT trace_id FROM spans")}


def books_balance(database: Path) -> bool:
    with Database(database) as opened:
        audits = opened.audit()
    return bool(audits) and all(audit.agrees for audit in audits)


def whole(database: Path) -> bool:
    """Whether the file is what it should be: every trace has its entry and its spans."""
    with closing(initialise(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return set(kinds(database)) == set(entries(database)) == traces_with_spans(database)
