"""Recording through a Profiler takes no lock, does no I/O and loses nothing that it queued."""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

import pytest

import afterglow
from afterglow.ports import SpanBatch
from afterglow.record.profiler import Profiler
from afterglow.testing import ListSink
from tests.counting_lock import CountingLock
from tests.profiler.conftest import Bench, make_beaver_file


class Audit:
    """What the interpreter opens in one thread, while somebody listens."""

    thread = 0
    seen: list[str] = []  # noqa: RUF012
    installed = False
    KINDS = ("open", "os", "socket", "sqlite3", "subprocess", "mmap", "fcntl", "time", "import")

    @classmethod
    def hook(cls, event: str, _arguments: object) -> None:
        if cls.thread == threading.get_ident() and event.split(".")[0] in cls.KINDS:
            cls.seen.append(event)

    @classmethod
    def listen(cls) -> None:
        if not cls.installed:
            sys.addaudithook(cls.hook)  # for good: a hook cannot be taken away
            cls.installed = True
        cls.seen = []
        cls.thread = threading.get_ident()


def workload(profiler: Profiler) -> None:
    """All that a program does between flushes."""
    with profiler.measure("outer", tags={"user": 1, "items": [1, 2]}) as span:
        span.annotate(more=2.5)
        profiler.measure(lambda args: f"call {args[0]}")(lambda number: number)(7)
        manual = profiler.start("by hand")
        manual.model.status = "warning"
        manual.end()
        assert manual.model.duration is not None
    try:
        with profiler.measure("failing"):
            raise ValueError("on purpose")
    except ValueError:
        pass


def test_recording_takes_no_lock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Lock", CountingLock)
    profiler = bench.profiler()
    monkeypatch.undo()
    workload(profiler)  # what is made at first use, is made
    CountingLock.acquired_by.clear()
    for _ in range(300):
        workload(profiler)
    assert threading.get_ident() not in CountingLock.acquired_by
    profiler.flush()
    assert threading.get_ident() in CountingLock.acquired_by, "the test sees no lock at all"


def test_recording_touches_no_file(bench: Bench, tmp_path: Path) -> None:
    profiler = bench.profiler(namespace="of my own")
    workload(profiler)
    Audit.listen()
    try:
        for _ in range(300):
            workload(profiler)
        assert Audit.seen == []
        (tmp_path / "x").write_text("")
        assert Audit.seen, "the test sees no I/O at all"
    finally:
        Audit.thread = 0


class HeldSink(ListSink):
    """Writes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.entered = threading.Event()

    def write(self, batch: SpanBatch) -> None:
        self.entered.set()
        self.may.wait(30)
        super().write(batch)


def test_nobody_waits_for_a_sink_that_stands_still() -> None:
    sink = HeldSink()
    profiler = Profiler(afterglow.Tracer(sink, batch_size=100), db=None)
    for number in range(10_000):
        profiler.start(f"span {number}").end()
    assert sink.entered.wait(10)
    assert sink.batches == [], "all of them were recorded while the first batch was being written"
    sink.may.set()
    profiler.close()
    assert [span.name for span in sink.spans] == [f"span {n}" for n in range(10_000)]


def test_nobody_waits_for_a_beaver_file_that_is_held(tmp_path: Path) -> None:
    path = make_beaver_file(tmp_path / "spans.db")
    profiler = afterglow.Profiler(path, run_id="run")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(10_000):
        profiler.start(f"span {number}").end()
    assert profiler.ledger()["written"] == 0
    assert profiler.ledger()["in_flight"] == 10_000
    other.execute("COMMIT")
    profiler.close()
    assert profiler.ledger()["written"] == 10_000
    count = other.execute("SELECT count(*), count(DISTINCT timestamp) FROM __beaver_logs__")
    assert count.fetchone() == (10_000, 10_000)
    other.close()


def test_all_that_many_threads_ended_is_there_after_close(bench: Bench) -> None:
    profiler = bench.profiler()

    def work(number: int) -> None:
        for _ in range(1_250):
            with profiler.measure(f"thread {number}"):
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profiler.close()
    counts = {name: stats.count for name, stats in bench.stats().items()}
    assert counts == {f"thread {number}": 1_250 for number in range(8)}
