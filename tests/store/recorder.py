"""A journal sink, the books of what was written to it, and what is in its files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from afterglow.config import JournalConfig
from afterglow.ledger import Ledger
from afterglow.model.flat import Flat
from afterglow.model.run import Process
from afterglow.ports import SpanBatch
from afterglow.store.columns import BatchHead, decode_batch
from afterglow.store.journal import JournalSink
from tests.store.conftest import OFFSET_NS, SEED, row


class Recorder:
    """A sink and the books of what was written to it."""

    def __init__(self, database: Path, *, run_id: str = "run", **settings: Any) -> None:
        self.database = database
        self.folder = database.with_name(database.name + ".d")
        self.sink = JournalSink(database, JournalConfig(**settings), run_id=run_id, pid=os.getpid())
        self.run_id = run_id
        self.written = 0

    def batch(self, *span_ids: int, bulk: int = 0, **fields: Any) -> SpanBatch:
        flat: Flat = []
        for span_id in span_ids:
            # Random, so that compression does not shrink it.
            flat += row(span_id, attributes={"bulk": os.urandom(bulk)} if bulk else {})
        process = Process(
            run_id=self.run_id, pid=os.getpid(), parent_pid=1, argv=("x",), host="h", start_ns=1
        )
        written = self.written + len(span_ids)
        lost = self.sink.counters()["journal_limit"]
        books = Ledger(
            recorded=written,
            written=written - lost,
            dropped={"journal_limit": lost} if lost else {},
            in_flight=0,
            not_recorded={},
            changed={},
        )
        fields.setdefault("open", None)
        return SpanBatch(
            flat,
            process=process,
            seed=SEED,
            wall_offset_ns=OFFSET_NS,
            ledger=books,
            **fields,
        )

    def write(self, *span_ids: int, **values: Any) -> None:
        self.sink.write(self.batch(*span_ids, **values))
        self.written += len(span_ids)

    def journals(self) -> list[Path]:
        return sorted(self.folder.glob("*.journal"), key=lambda path: (len(path.name), path.name))


def heads_and_ids(path: Path) -> tuple[list[BatchHead], list[int]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA application_id").fetchone() == (0x41474A4C,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        bodies = connection.execute("SELECT body FROM batches ORDER BY seq").fetchall()
    decoded = [decode_batch(body) for (body,) in bodies]
    return [head for head, _, _ in decoded], [i for _, spans, _ in decoded for i in spans.span_id]


def ids_in(*paths: Path) -> list[int]:
    return [span_id for path in paths for span_id in heads_and_ids(path)[1]]


def fill(one: Recorder, first: int, batches: int) -> None:
    for number in range(first, first + batches):
        one.write(number, bulk=100_000)


Make = Callable[..., Recorder]
