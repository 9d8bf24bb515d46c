"""Retention that is killed, crowded, and run beside a program that records."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import afterglow
from afterglow.config import RetentionConfig
from afterglow.keep.follow import Follower
from afterglow.keep.retention import Pass, Retention
from afterglow.model.statistics import NameStatistics
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from tests.keep.traffic import Service, books_balance, kinds, retention, traces_with_spans, whole

DAY_S = 86_400

# A pass that kills itself before the n-th statement that any of its connections carries out.
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from afterglow.config import RetentionConfig
from afterglow.keep import retention as module
from afterglow.keep.sqlite import connections
from afterglow.testing import ManualClock

path, now_ns, at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seen = 0

def count(_statement):
    global seen
    seen += 1
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(make):
    def made(*args, **kwargs):
        connection = make(*args, **kwargs)
        connection.set_trace_callback(count)
        return connection
    return made

module.initialise = watched(module.initialise)
connections.initialise = watched(connections.initialise)
module._LOOK_SPANS, module._ENTER = 40, 16
with module.Retention(path, RetentionConfig(keep_max_traces=30), clock=ManualClock(now_ns)) as one:
    one.step()
print(seen)
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "spans.db", ManualClock())
    yield made
    made.writer.die()


def _figures(database: Path) -> list[NameStatistics]:
    with Database(database) as opened:
        return sorted(opened.statistics(), key=lambda s: s.name)


def _run_killed(service: Service, at: int) -> subprocess.CompletedProcess[str]:
    arguments = [str(service.database), str(service.clock.wall_ns()), str(at)]
    return subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False
    )


def test_a_pass_may_be_killed_anywhere(service: Service) -> None:
    """Each dies some statements further on than the one before it, and the next goes on."""
    service.record(60)
    service.record(5, failed=True)
    before = _figures(service.database)
    killed, at = 0, 12
    while _run_killed(service, at).returncode == -9:
        killed += 1
        at += 37
        assert _figures(service.database) == before
        assert books_balance(service.database)
        assert killed < 60
    assert killed >= 5
    with retention(service, RetentionConfig(keep_max_traces=30)) as opened:
        opened.step()
    assert len(kinds(service.database)) == 30
    assert list(kinds(service.database).values()).count("error") == 5
    assert whole(service.database)
    assert _figures(service.database) == before


def test_two_passes_at_once(service: Service) -> None:
    for _ in range(6):
        service.record(200)
    service.record(5, failed=True)
    before = _figures(service.database)
    both = threading.Barrier(2)

    def one() -> Pass:
        config = RetentionConfig(keep_max_traces=100)
        with Retention(service.database, config, clock=service.clock) as opened:
            both.wait()
            return opened.step()

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(one), pool.submit(one)]]
    assert sum(result.forgotten.traces for result in results) == 1_105
    assert len(kinds(service.database)) == 100
    assert whole(service.database) and books_balance(service.database)
    assert _figures(service.database) == before


def test_a_recorder_beside_a_follower(tmp_path: Path) -> None:
    """Nothing that the program records is lost or counted twice while the file is kept small."""
    database = tmp_path / "live.db"
    passes: list[Pass] = []
    said: list[str] = []
    config = RetentionConfig(keep_max_traces=50)
    follower = Follower(database, config, done=passes.append, complain=said.append)
    assert follower.step() is None
    assert "not there yet" in said[0]
    with afterglow.Tracer(database) as tracer:
        for turn in range(5):
            for number in range(200):
                with tracer.span("request", turn=turn), tracer.span("query"):
                    pass
                if number % 50 == 0:
                    with tracer.span("request") as span:
                        span.error(ValueError("no"))
            assert tracer.flush()
            follower.step()
    follower.step()
    assert len(said) == 1
    assert len(kinds(database)) <= 50
    assert list(kinds(database).values()).count("error") == 20
    assert whole(database) and books_balance(database)
    with Database(database) as opened:
        assert {s.name: s.count for s in opened.statistics()} == {"request": 1_020, "query": 1_000}
        assert opened.ledger()["dropped"] == {}
    assert sum(one.folded.spans for one in passes) == 2_020


def test_a_follower_waits_between_steps_and_stops_at_once(service: Service) -> None:
    service.record(3)
    stop = threading.Event()
    done: list[Pass] = []

    class Clock(ManualClock):
        waits = 0

        def wait(self, event: threading.Event, timeout_s: float) -> bool:
            assert timeout_s == 10.0
            self.waits += 1
            if self.waits == 3:
                stop.set()
            return super().wait(event, timeout_s)

    clock = Clock()
    Follower(service.database, RetentionConfig(), clock=clock, done=done.append).run(stop)
    assert clock.waits == 3
    assert len(done) == 1  # an idle pass is not worth a line


def test_a_follower_says_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    database = tmp_path / "spans.db"
    database.write_bytes(b"no database at all" * 100)
    clock, said = ManualClock(), list[str]()
    follower = Follower(database, RetentionConfig(), clock=clock, complain=said.append)
    for _ in range(10):
        assert follower.step() is None
        clock.advance_s(10)
    assert len(said) == 2  # once a minute
    database.unlink()
    service = Service(database, clock)
    service.record(2)
    assert follower.step() is not None
    service.writer.die()


@pytest.mark.parametrize("mode", ["read_only_file", "busy"])
def test_looking_never_fails(service: Service, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from afterglow import wiring
    from afterglow.store.schema import initialise

    (trace,) = service.record()
    with retention(service) as opened:
        opened.step()
    if mode == "busy":
        monkeypatch.setattr(wiring, "_LOOK_BUSY_MS", 1)
        other = initialise(service.database)
        other.execute("BEGIN IMMEDIATE")
        wiring.looked_at(service.database, [int(trace, 16)])
        other.execute("ROLLBACK")
        other.close()
    else:
        service.database.chmod(0o444)
        wiring.looked_at(service.database, [int(trace, 16)])
        service.database.chmod(0o644)
    wiring.looked_at(service.database, [1])
    wiring.looked_at(service.database.with_name("none.db"), [1])
    assert traces_with_spans(service.database) == {trace}
