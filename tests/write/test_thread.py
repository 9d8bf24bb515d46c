"""The writer's thread, and forks beside it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from afterglow.clock import SystemClock
from afterglow.ledger import balanced
from afterglow.ports import SpanBatch
from afterglow.testing import ListSink
from tests.write.conftest import Rig, record

Make = Callable[..., Rig]

# Python 3.12 warns of forking beside threads: `before_fork` ends ours, tests may leave others.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class HangingSink(ListSink):
    """Stays in `write` until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def write(self, batch: SpanBatch) -> None:
        self.entered.set()
        assert self.let_go.wait(30)
        super().write(batch)


_before: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def remember_threads() -> None:
    _before.clear()
    _before.update(threading.enumerate())


def threads() -> list[str]:
    """The threads that this test has begun, and that run."""
    return [thread.name for thread in threading.enumerate() if thread not in _before]


def test_the_thread_writes_and_ends_with_close(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, clock=SystemClock())
    one.writer.start()
    one.writer.start()
    assert threads() == ["afterglow-writer"]
    one.put(10_000)
    assert one.writer.flush()
    assert len(sink.spans) == 10_000
    one.put(10)
    one.writer.close()
    assert len(sink.spans) == 10_010
    assert threads() == []


def test_the_thread_leaves_signals_to_the_program(rig: Make) -> None:
    masks: list[set[Any]] = []

    class Asking(ListSink):
        def write(self, batch: SpanBatch) -> None:
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    one = rig(Asking(), clock=SystemClock())
    one.writer.start()
    one.put(1)
    assert one.writer.flush()
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD} <= masks[0]


def test_nothing_ends_the_thread(rig: Make) -> None:
    class Leaving:
        def __str__(self) -> str:
            raise SystemExit

    sink = ListSink()
    one = rig(sink, clock=SystemClock())
    one.writer.start()
    one.put(1, name=Leaving())
    assert one.writer.flush()
    assert [span.name for span in sink.spans] == ["<Leaving>"]

    # And from elsewhere: it is said, and tried again.
    def leave(*_args: object) -> Any:
        raise SystemExit

    one.writer._delivery._make = leave  # type: ignore[assignment]
    one.put(1)
    assert not one.writer.flush()
    assert threads() == ["afterglow-writer"]
    assert one.said == ["the writer stumbled and goes on: SystemExit:"]
    one.writer._delivery._make = one.writer._make


def test_a_sink_that_hangs_does_not_hang_the_program(rig: Make) -> None:
    sink = HangingSink()
    one = rig(sink, clock=SystemClock(), batch_size=2, shutdown_timeout_s=0.1)
    one.writer.start()
    one.put(2)
    assert sink.entered.wait(10)
    one.put(3)
    one.writer.close()
    assert one.ledger["dropped"] == {"shutdown_timeout": 5}
    assert one.ledger["in_flight"] == 0
    assert one.said == ["gave up after 0.1 s without progress: 5 spans are lost"]
    # It comes back one day: the books stay as they are.
    thread = one.writer._thread
    assert thread is not None
    sink.let_go.set()
    thread.join(10)
    assert not thread.is_alive()
    assert one.ledger["dropped"] == {"shutdown_timeout": 5}
    assert one.ledger["written"] == 0


def test_eight_threads_a_queue_of_64_and_a_slow_sink_lose_nothing_uncounted(rig: Make) -> None:
    class Slow(ListSink):
        def write(self, batch: SpanBatch) -> None:
            threading.Event().wait(0.001)
            super().write(batch)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        sink = Slow()
        one = rig(sink, clock=SystemClock(), max_queue_size=64, overflow="drop_oldest")
        one.writer.start()

        def produce(first: int) -> None:
            for span_id in range(first, first + 2_000):
                one.handover.put(record(span_id))

        producers = [threading.Thread(target=produce, args=(n * 2_000 + 1,)) for n in range(8)]
        for thread in producers:
            thread.start()
        for thread in producers:
            thread.join()
        one.writer.close()
    finally:
        sys.setswitchinterval(before)
    ledger = one.ledger
    assert ledger["recorded"] == 16_000
    assert ledger["in_flight"] == 0
    ids = [span.span_id for span in sink.spans]
    assert ledger["written"] == len(ids) == len(set(ids))
    assert balanced(ledger)


class Unhurried(SystemClock):
    """Whoever waits for an event does so for long, and is remembered if it did not come."""

    def __init__(self) -> None:
        self.in_vain = 0

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        came = event.wait(5)
        self.in_vain += not came
        return came


def test_a_producer_that_waits_for_room_wakes_the_writer(rig: Make) -> None:
    sink = ListSink()
    clock = Unhurried()
    one = rig(sink, clock=clock, max_queue_size=4, overflow="block", flush_interval_s=3_600)
    one.writer.start()
    one.put(1_000)
    assert one.writer.flush()
    assert len(sink.spans) == 1_000
    assert clock.in_vain == 0


def test_fifty_writers_leave_no_thread(rig: Make) -> None:
    for _ in range(50):
        one = rig(ListSink(), clock=SystemClock())
        one.writer.start()
        one.put(1)
        one.writer.close()
    assert threads() == []


# --- fork -----------------------------------------------------------------------------------------


def in_child(check: Callable[[], None]) -> int:
    """Fork; the child checks and leaves. Its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_begins_with_nothing_and_writes_its_own(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, clock=SystemClock(), flush_interval_s=3_600)
    one.writer.start()
    one.put(3)
    assert one.writer.flush()
    one.put(2)

    def child() -> None:
        one.writer.after_fork()
        assert not one.writer._runs()
        assert one.ledger["recorded"] == 0
        one.put(2)  # the first span starts the thread
        assert one.writer._runs()
        one.writer.close()
        assert [span.span_id for span in sink.spans] == [6, 7]
        assert one.ledger["written"] == 2

    one.writer.before_fork()
    assert not one.writer._runs(), "nothing of ours runs while the process forks"
    assert in_child(child) == 0
    one.writer.after_fork_in_parent()
    assert one.writer._runs()
    one.writer.close()
    assert [span.span_id for span in sink.spans] == [1, 2, 3, 4, 5]


def test_a_child_that_records_nothing_starts_no_thread(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, clock=SystemClock())
    one.writer.start()

    def child() -> None:
        one.writer.after_fork()
        assert one.writer.flush()
        assert not one.writer._runs()
        one.writer.close()
        assert [batch.last for batch in sink.batches] == [True]

    assert in_child(child) == 0


def test_a_child_of_a_closed_writer_is_closed(rig: Make) -> None:
    one = rig(clock=SystemClock())
    one.writer.start()
    one.writer.close()

    def child() -> None:
        one.writer.after_fork()
        one.put(1)
        one.writer.close()
        assert one.ledger["dropped"] == {"closed": 1}
        assert not one.writer._runs()

    assert in_child(child) == 0


def test_a_fork_does_not_wait_for_a_sink_that_hangs(rig: Make) -> None:
    sink = HangingSink()
    one = rig(sink, clock=SystemClock(), batch_size=1)
    one.writer.start()
    one.put(1)
    assert sink.entered.wait(10)
    one.writer.before_fork()
    sink.let_go.set()
    one.writer.after_fork_in_parent()
    one.put(1)
    assert one.writer.flush()
    assert len(sink.spans) == 2
