"""Journals as any writer may leave them, made without the writer."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afterglow.ledger import Ledger, new_ledger
from afterglow.model.flat import Extra, Flat
from afterglow.model.run import Process
from afterglow.model.span import Span
from afterglow.ports import SpanBatch
from afterglow.store.columns import encode_batch
from afterglow.store.read import Database

SEED = 0xFEED << 48
OFFSET_NS = 1_700_000_000_000_000_000
WHERE = (7, "MainThread")
#: Beyond the largest number that Linux gives to a process.
NO_PID = (1 << 22) + 1


def row(
    span_id: int,
    parent: int = 0,
    start: int = 0,
    end: int | None = 10,
    *,
    name: str = "work",
    trace: int | bytes = 1,
    attributes: dict[str, Any] | None = None,
    extra: Extra | None = None,
) -> Flat:
    """One flat span; times on a clock that began at 0."""
    return [trace, span_id, parent, name, start, end, attributes or {}, WHERE, extra]


class JournalWriter:
    """What a writing process does to its folder, by hand: alive until `die`."""

    def __init__(self, database: Path, *, run_id: str = "run", pid: int = NO_PID) -> None:
        self.folder = database.with_name(database.name + ".d")
        self.folder.mkdir(exist_ok=True)
        self.process = Process(
            run_id=run_id, pid=pid, parent_pid=1, argv=("prog", "x"), host="here",
            start_ns=OFFSET_NS - 5,
        )  # fmt: skip
        self.stem = f"{run_id}-{pid}"
        self.lock = os.open(self.folder / f"{self.stem}.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.alive = True
        self.number = 0
        self.seq = 0
        self.ledger: Ledger = new_ledger()
        self.written: list[Span] = []
        self.connection: sqlite3.Connection | None = None
        self.rotate()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.stem}-{self.number}.journal"

    def rotate(self) -> None:
        """Begin the next journal."""
        if self.connection is not None:
            self.connection.close()
        self.number += 1
        self.connection = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        self.connection.execute("PRAGMA application_id=0x41474A4C")
        self.connection.execute("PRAGMA user_version=1")
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("CREATE TABLE batches(seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def batch(self, *rows: Flat, still_open: list[Flat] | None = None, **fields: Any) -> SpanBatch:
        open_rows = None if still_open is None else [v for r in still_open for v in r]
        given: dict[str, Any] = {"process": self.process, "ledger": self.ledger} | fields
        return SpanBatch([v for r in rows for v in r], open_rows, seed=SEED,
                         wall_offset_ns=OFFSET_NS, **given)  # fmt: skip

    def write(self, *rows: Flat, still_open: list[Flat] | None = None, **fields: Any) -> SpanBatch:
        """Append a batch; the books count its spans as written."""
        self.ledger["recorded"] += len(rows)
        self.ledger["written"] += len(rows)
        batch = self.batch(*rows, still_open=still_open, **fields)
        self.written.extend(batch.spans())
        self.write_body(encode_batch(batch))
        return batch

    def write_body(self, body: bytes) -> None:
        assert self.connection is not None
        self.seq += 1
        self.connection.execute("INSERT INTO batches VALUES (?, ?)", (self.seq, body))

    def die(self) -> None:
        """What kill -9 leaves: the files, and a lock that nobody holds."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.alive:
            os.close(self.lock)
            self.alive = False


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "spans.db"


@pytest.fixture
def make_writer(database: Path) -> Iterator[Callable[..., JournalWriter]]:
    made: list[JournalWriter] = []

    def make(**fields: Any) -> JournalWriter:
        made.append(JournalWriter(database, **fields))
        return made[-1]

    yield make
    for writer in made:
        writer.die()


@pytest.fixture
def writer(make_writer: Callable[..., JournalWriter]) -> JournalWriter:
    return make_writer()


def spans_in(database: Path) -> list[Span]:
    """All spans of the file, after a fold; in the order of their ids."""
    with Database(database) as opened:
        return sorted(opened.spans(), key=lambda span: (span.run_id, span.span_id))


@pytest.fixture
def two_runs(database: Path, make_writer: Callable[..., JournalWriter]) -> Iterator[Database]:
    error = Extra(status="error", status_text="")
    warning = Extra(status_text="warning")
    alpha = make_writer(run_id="alpha")
    alpha.write(
        row(2, 1, 0, 30, name="kid", attributes={"n": 7, "on": True}),
        row(3, 1, 30, 35, name="kid", attributes={"n": 70, "text": "7"}, extra=error),
        row(1, 0, 0, 100, name="root"),
    )
    beta = make_writer(run_id="alphabet", pid=NO_PID + 1)
    beta.write(
        row(12, 11, 0, 500, name="kid", trace=11, extra=warning, attributes={"n": 7.0}),
        row(11, 0, 0, 1_000, name="root", trace=11),
        still_open=[row(13, end=None, name="open", trace=13)],
    )
    with Database(database) as opened:
        yield opened


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Journal sinks (tests/store/recorder.py), closed in the end."""
    from tests.store.recorder import Recorder

    made: list[Recorder] = []

    def make(database: Path | None = None, **settings: Any) -> Recorder:
        made.append(Recorder(database or tmp_path / "a.db", **settings))
        return made[-1]

    yield make
    for one in made:
        one.sink.close()
