"""Logged errors become entries, repeats are counted, nothing waits, and the books balance."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import SettingError
from afterglow.keep.entry import Entry
from afterglow.keep.error_recorder import ErrorRecorder
from afterglow.testing import ManualClock


class WatchedStore(afterglow.TraceStore):
    """A store that does something else before it stores."""

    first: Callable[[], object] = staticmethod(lambda: None)

    def store(self, payload: Any, **fields: Any) -> str:
        self.first()
        return super().store(payload, **fields)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[WatchedStore]:
    with WatchedStore(tmp_path / "m.db", clock=clock, maintenance=False) as opened:
        yield opened


@pytest.fixture
def log() -> logging.Logger:
    """A logger of this test's own, which no other handler hears."""
    return logging.Logger("shop.orders")


@pytest.fixture
def recorder(
    store: WatchedStore, clock: ManualClock, log: logging.Logger
) -> Iterator[ErrorRecorder]:
    """Steps are called by hand."""
    made = ErrorRecorder(store, clock=clock, start=False)
    made.attach(log)
    yield made
    made.close()
    assert balanced(made)
    assert made.counts()["waiting"] == 0


def balanced(recorder: ErrorRecorder) -> bool:
    counts = recorder.counts()
    ways = ("stored", "repeated", "dropped", "failed", "waiting")
    return counts["seen"] == sum(counts[way] for way in ways)  # type: ignore[literal-required]


def one(store: afterglow.TraceStore) -> Entry:
    (entry,) = store.all()
    return entry


def fail(log: logging.Logger, text: str = "no") -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("order %s failed", 7)


def test_an_error_becomes_an_episodic_entry(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    log.error("order %s failed", 42)
    log.warning("not so bad")
    assert store.count() == 0, "nothing is stored in the thread that logs"
    recorder.step()
    entry = one(store)
    assert (entry.kind, entry.valence, entry.intensity) == ("episodic", -0.6, 0.7)
    assert (entry.confidence, entry.unresolved) == (0.9, True)
    assert entry.tags == ("error", "shop.orders")
    assert entry.payload["message"] == "order 42 failed"
    assert entry.payload["file"] == __file__
    assert store.dirty == 0, "what was stored is flushed: a crash may follow"


def test_a_critical_one_weighs_more(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    log.critical("down", extra={"component": "payments"})
    recorder.step()
    assert (one(store).valence, one(store).intensity) == (-0.8, 0.9)
    assert one(store).tags == ("error", "payments")


def test_an_exception_comes_with_its_traceback_and_its_cause(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OSError("outer") from error
    except OSError:
        log.exception("both")
    recorder.step()
    payload = one(store).payload
    assert payload["exception"] == {"type": "OSError", "message": "outer"}
    text = payload["traceback"]
    assert text.index("KeyError: 'inner'") < text.index("OSError: outer")
    assert 'raise OSError("outer") from error' in text


def test_repeats_within_the_window_are_counted_in_the_entry(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger, clock: ManualClock
) -> None:
    for text in "abc":
        fail(log, text)
        clock.advance_s(20)
    assert recorder.counts()["repeated"] == 2
    fail(log)  # 60 s after the first: a new one
    recorder.step()
    assert store.count() == 2
    recorder.step()
    first, second = sorted(store.all(), key=lambda entry: entry.payload.get("repeats", 0))[::-1]
    assert (first.payload["repeats"], "repeats" in second.payload) == (2, False)
    assert first.payload["exception"]["message"] == "a"


def test_repeats_of_a_window_that_nothing_follows_are_kept_too(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger, clock: ManualClock
) -> None:
    for _ in range(5):
        fail(log)
    recorder.step()
    clock.advance_s(61)
    recorder.step()
    recorder.step()
    assert one(store).payload["repeats"] == 4


def test_close_keeps_the_repeats_of_open_windows(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    for _ in range(3):
        fail(log)
    recorder.close()
    recorder.close()
    assert one(store).payload["repeats"] == 2
    assert log.handlers == []


def test_what_differs_is_no_repeat(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    fail(log)
    log.error("from one line")
    log.error("from another")
    log.critical("from a third")
    for kind in (ValueError, KeyError):
        try:
            raise kind
        except kind:
            log.exception("one template")
    recorder.step()
    assert (store.count(), recorder.counts()["repeated"]) == (6, 0)


def test_a_full_queue_drops_and_counts(
    store: WatchedStore, clock: ManualClock, log: logging.Logger
) -> None:
    recorder = ErrorRecorder(store, clock=clock, start=False, error_queue_size=2)
    recorder.attach(log)
    for kind in (ValueError, KeyError, OSError, TypeError):
        log.error("x", exc_info=kind())
    counts = recorder.counts()
    assert (counts["waiting"], counts["dropped"]) == (2, 2)
    recorder.close()
    assert (store.count(), recorder.counts()["stored"], balanced(recorder)) == (2, 2, True)


def test_what_storing_logs_is_left_alone(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    """Of whatever logger: a driver's as well, in the thread that is storing."""
    store.first = lambda: log.error("in the middle of storing")  # type: ignore[method-assign]
    log.error("at first")
    recorder.step()
    recorder.step()
    assert one(store).payload["message"] == "at first"
    assert recorder.counts()["ignored"] == 1


def test_our_own_loggers_are_left_alone(recorder: ErrorRecorder) -> None:
    for name in ("afterglow", "afterglow.keep", "afterglowing"):
        recorder.handle(logging.makeLogRecord({"name": name, "levelno": 40, "msg": "x"}))
    assert (recorder.counts()["ignored"], recorder.counts()["seen"]) == (2, 1)


def test_what_cannot_be_stored_is_counted_and_logging_goes_on(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    def refuse() -> None:
        raise RuntimeError("no room")

    store.first = refuse  # type: ignore[method-assign]
    log.error("lost")
    recorder.step()
    assert (recorder.counts()["failed"], str(recorder.last_error)) == (1, "no room")
    store.first = lambda: None  # type: ignore[method-assign]
    log.error("kept")
    recorder.step()
    assert one(store).payload["message"] == "kept"


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_nothing_that_is_logged_can_harm(
    store: WatchedStore, recorder: ErrorRecorder, log: logging.Logger
) -> None:
    log.error("%d", "no number")
    log.error("%s", Nasty())
    log.error(Nasty())
    log.error("lone \ud800 surrogate, NUL \0")
    log.error("x" * 1_000_000)
    deep: Exception | None = None
    for i in range(10_000):
        nxt = ValueError(i)
        nxt.__cause__ = deep
        deep = nxt
    log.error("chain", exc_info=deep)

    def down(n: int) -> None:
        if not n:
            raise RecursionError("at the bottom " + "y" * 100_000)
        down(n - 1)

    try:
        down(500)
    except RecursionError:
        log.exception("deep")
    recorder.step()
    assert (store.count(), recorder.counts()["failed"]) == (7, 0)
    for entry in store.all():
        assert len(entry.encoded_payload) < 60_000
    (bottom,) = (e for e in store.all() if e.payload["message"] == "deep")
    text = bottom.payload["traceback"]
    assert text.startswith("  (462 calls left out)\n"), text[:80]
    assert "RecursionError: at the bottom" in text


def test_no_frame_or_argument_is_kept_alive(recorder: ErrorRecorder, log: logging.Logger) -> None:
    import gc
    import weakref

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)
    try:
        raise ValueError(big)
    except ValueError:
        log.exception("with %s", big)
    del big
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("wrong", [{"error_queue_size": 0}, {"error_window_s": float("nan")}])
def test_a_setting_that_cannot_be(store: WatchedStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        ErrorRecorder(store, **wrong)


# --- with its thread ------------------------------------------------------------------------


def test_the_store_records_by_itself_and_closes_what_it_made(
    tmp_path: Path, log: logging.Logger
) -> None:
    before = threading.active_count()
    with afterglow.TraceStore(tmp_path / "m.db", maintenance=False) as store:
        recorder = store.record_errors(log)
        log.error("by the thread")
    assert recorder.counts()["stored"] == 1
    assert (log.handlers, threading.active_count()) == ([], before)
    with afterglow.TraceStore(tmp_path / "m.db", maintenance=False) as store:
        assert one(store).payload["message"] == "by the thread"


def test_the_books_balance_under_threads(tmp_path: Path, log: logging.Logger) -> None:
    with afterglow.TraceStore(tmp_path / "m.db", maintenance=False) as store:
        recorder = store.record_errors(log, error_queue_size=50)

        def shout(number: int) -> None:
            for i in range(200):
                log.error("x", exc_info=type(f"E{number}_{i % 100}", (Exception,), {})())
                assert balanced(recorder)

        threads = [threading.Thread(target=shout, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.close()
        counts = recorder.counts()
        assert (counts["seen"], counts["waiting"], counts["failed"]) == (800, 0, 0)
        assert balanced(recorder)
        assert store.count() == counts["stored"]


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


AT_EXIT = """
import logging, afterglow
store = afterglow.TraceStore("m.db")
logging.getLogger().addHandler(afterglow.ErrorRecorder(store))
logging.error("just before the end")
"""

WHILE_FORKING = """
import logging, os, afterglow
store = afterglow.TraceStore("m.db", maintenance=False)
recorder = store.record_errors()
logging.error("before")
if os.fork() == 0:
    logging.error("in the child")
    os._exit(recorder.counts()["dropped"])
assert os.waitstatus_to_exitcode(os.wait()[1]) == 1
logging.error("after")
store.close()
print(recorder.counts()["stored"])
"""


def test_the_last_words_of_a_program_are_kept(tmp_path: Path) -> None:
    """logging closes its handlers at exit, after us, holding their locks."""
    done = run(AT_EXIT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with afterglow.TraceStore(tmp_path / "m.db", maintenance=False) as store:
        assert one(store).payload["message"] == "just before the end"


def test_a_forked_child_leaves_the_parents_store_alone(tmp_path: Path) -> None:
    done = run(WHILE_FORKING, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
