"""Recording takes no lock, does no I/O and does not wait. Three looks at the same promise:

* every lock made by us counts who acquires it: the recording thread never does;
* an audit hook sees every file, socket and database that the interpreter opens;
* the C functions that the hot path calls are a closed list.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import afterglow
from afterglow.testing import ListSink
from tests.counting_lock import CountingLock

#: What the hot path may call in C. Nothing in it can block.
ALLOWED = {
    "object.__init__",
    "ContextVar.get",
    "ContextVar.set",
    "ContextVar.reset",
    "perf_counter_ns",
    "__next__",
    "_get_running_loop",
    "get",  # dict.get: the table of running tasks
    "current_task",
    "get_name",
    "is_tracked",
    "len",
    "extend",
    "pop",  # dict.pop: extras
    "update",  # dict.update: Span.set
    "copy",
}


def workload(tracer: afterglow.Tracer) -> None:
    """All that a program does between flushes."""
    with tracer.span("outer", user=1, route="/x", ok=True) as span:
        span.set(more=2.5)
        with tracer.span("inner", items=[1, 2]):
            pass
        tracer.start_span("by hand").end()
        tracer.wrap(lambda: None)()
        span.event("happened", value=1)
    try:
        with tracer.span("failing"):
            raise ValueError("on purpose")
    except ValueError:
        pass


@pytest.fixture(params=[131_072, 4], ids=["room", "full"])
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_no_lock_is_taken(monkeypatch: pytest.MonkeyPatch, size: int, overflow: str) -> None:
    monkeypatch.setattr(threading, "Lock", CountingLock)
    tracer = afterglow.Tracer(ListSink(), max_queue_size=size, overflow=overflow)
    monkeypatch.undo()
    workload(tracer)  # what is made at first use, is made
    me = threading.get_ident()
    CountingLock.acquired_by.clear()
    for _ in range(200):
        workload(tracer)
    mine = CountingLock.acquired_by.count(me)
    if overflow == "drop_oldest" and size == 4:
        # It tries once a span that finds the queue full, without waiting.
        assert mine <= 200 * 5
    else:
        assert mine == 0
    tracer.close()
    assert me in CountingLock.acquired_by, "the test sees no lock at all"


def test_nothing_waits_while_others_hold_every_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer stuck in the middle of its work stops nobody."""
    made: list[Any] = []
    real = threading.Lock

    def remembered() -> Any:
        made.append(real())
        return made[-1]

    monkeypatch.setattr(threading, "Lock", remembered)
    tracer = afterglow.Tracer(ListSink(), max_queue_size=8, overflow="drop_oldest")
    monkeypatch.undo()
    tracer.flush()
    held = [lock for lock in made if lock.acquire(timeout=1)]
    worker = threading.Thread(target=lambda: [workload(tracer) for _ in range(100)], daemon=True)
    # Thread.start itself waits on a lock, none of ours.
    worker.start()
    worker.join(20)
    stuck = worker.is_alive()
    for lock in held:
        lock.release()
    assert held
    assert not stuck, "recording waits for a lock"
    tracer.close()


class Audit:
    """Audit events of one thread, while it listens; hooks cannot be removed."""

    thread = 0
    seen: list[str] = []  # noqa: RUF012

    @classmethod
    def hook(cls, event: str, _args: object) -> None:
        if cls.thread == threading.get_ident() and event.split(".")[0] in {
            "open",
            "os",
            "socket",
            "sqlite3",
            "subprocess",
            "mmap",
            "fcntl",
            "shutil",
            "tempfile",
            "time",
            "import",
        }:
            cls.seen.append(event)


@pytest.fixture
def audited() -> Iterator[list[str]]:
    if not getattr(Audit, "installed", False):
        sys.addaudithook(Audit.hook)
        Audit.installed = True  # type: ignore[attr-defined]
    Audit.seen = []
    Audit.thread = threading.get_ident()
    yield Audit.seen
    Audit.thread = 0


def test_no_file_is_touched(tmp_path: Any, audited: list[str]) -> None:
    tracer = afterglow.Tracer(tmp_path / "a.db")
    workload(tracer)
    audited.clear()
    for _ in range(200):
        workload(tracer)
    assert audited == []
    (tmp_path / "x").write_text("")
    assert audited, "the test sees no I/O at all"
    tracer.close()


def c_calls(work: Callable[[], object]) -> set[str]:
    """The C functions that our own hot path calls while `work` runs in this thread."""
    seen: set[str] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and frame.f_code.co_filename.endswith("record/hot.py"):
            owner = type(getattr(argument, "__self__", None)).__name__
            name = argument.__name__
            seen.add(f"{owner}.{name}" if owner == "ContextVar" else name)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def test_the_hot_path_calls_nothing_that_blocks() -> None:
    tracer = afterglow.Tracer(ListSink())

    def nested() -> None:
        with tracer.span("outer", a=1), tracer.span("inner"):
            pass

    async def in_a_task() -> None:
        nested()

    nested()
    seen = c_calls(nested)
    asyncio.run(in_a_task())
    seen |= c_calls(lambda: asyncio.run(in_a_task()))
    assert "extend" in seen and "perf_counter_ns" in seen, "the test sees nothing"
    assert seen <= ALLOWED
    tracer.close()
