from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from afterglow.config import JournalConfig
from afterglow.model.flat import Extra
from afterglow.store.fold import fold
from afterglow.store.journal import JournalSink
from afterglow.store.live import journal_statistics
from afterglow.store.read import Database
from tests.store.conftest import NO_PID, JournalWriter, row


def test_journals_and_database_say_the_same(
    database: Path, make_writer: Callable[..., JournalWriter]
) -> None:
    error = Extra(status="error")
    for pid in (NO_PID, NO_PID + 1):
        writer = make_writer(pid=pid)
        writer.write(row(1, end=5, name="a"), row(2, end=900, name="b", extra=error))
        writer.write_body(b"damaged")
        writer.write(still_open=[row(9, end=None, name="open")])
        writer.write(*(row(i, end=i * i, name=f"n{i % 3}") for i in range(10, 400)))
    straight = {s.name: s for s in journal_statistics(database)}
    with Database(database) as opened:
        folded = {s.name: s for s in opened.statistics() if s.count}
    assert straight.keys() == folded.keys()
    for name, one in straight.items():
        other = folded[name]
        for field in ("count", "total_ns", "p50_ns", "p95_ns", "p99_ns", "min_ns", "max_ns",
                      "errors"):  # fmt: skip
            assert getattr(one, field) == getattr(other, field), (name, field)
        assert (one.self_known, other.self_known) == (False, True)


def test_no_journals_no_statistics(database: Path) -> None:
    assert journal_statistics(database) == []


def test_what_the_real_sink_writes_is_read(
    database: Path, make_writer: Callable[..., JournalWriter]
) -> None:
    maker = make_writer()
    sink = JournalSink(database, JournalConfig(), run_id="real", pid=NO_PID + 2)
    process = {"process": maker.process}
    sink.write(maker.batch(row(2, 1), row(3, 1), still_open=[row(1, end=None)], **process))
    assert journal_statistics(database)[0].count == 2
    fold(database)
    sink.write(maker.batch(row(1, end=50), still_open=[], last=True, **process))
    sink.close()
    with Database(database) as opened:
        assert [(s.span_id, s.interrupted) for s in opened.spans()] == [
            (2, False), (3, False), (1, False),
        ]  # fmt: skip
        assert opened.runs()[0].state == "finished"
    assert not list(maker.folder.glob("real-*"))
