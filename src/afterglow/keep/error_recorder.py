"""Errors of a program, from `logging` into a store, without making the program wait.

A handler puts what it took of each record into a bounded queue; one daemon thread, a loop round
`step()`, stores it as an `episodic` entry and flushes. A repeat within the window only counts,
and the entry says how often when the window is over.

    seen = stored + repeated + dropped + failed + waiting        at every moment

`emit` runs under the lock that `logging` holds round every handler, and takes no other. The worker
never takes that one: logging holds it while it closes a handler at exit, and waits for us. What
the store itself logs, and whatever is logged in the thread that is storing, is left alone
(`ignored`), or an error of storing would be an error to store.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypedDict

from afterglow.clock import Clock, SystemClock
from afterglow.config import ErrorConfig, load
from afterglow.keep.error_capture import Captured, capture, described, fingerprint

__all__ = ["ErrorCounts", "ErrorRecorder", "ErrorStore"]

_POLL_S: Final = 0.25
_MOST_WINDOWS: Final = 10_000
_OURS: Final = "afterglow"
#: valence, intensity
_ERROR: Final = (-0.6, 0.7)
_CRITICAL: Final = (-0.8, 0.9)
_CONFIDENCE: Final = 0.9


class ErrorStore(Protocol):
    """As much of a trace store as this needs."""

    def store(
        self,
        payload: Any,
        *,
        kind: str,
        tags: Sequence[str],
        valence: float,
        intensity: float,
        trace_id: str | None,
        confidence: float,
        unresolved: bool,
    ) -> str: ...

    def flush(self) -> object: ...

    def before_close(self, do: Callable[[], object]) -> None: ...


class ErrorCounts(TypedDict):
    """Where every error went: seen = stored + repeated + dropped + failed + waiting.

    `dropped` found the queue full or the recorder closed, `failed` could not be stored; `ignored`
    were of the store itself, and are not among the seen. `flush_failures` counts flushes, whose
    entries stay in the store for the next.
    """

    seen: int
    stored: int
    repeated: int
    dropped: int
    failed: int
    waiting: int
    ignored: int
    flush_failures: int


_Key = tuple[object, ...]


class _Window:
    """One error and its repeats; emit counts them, and the worker reads when it is over."""

    def __init__(self, begun_ns: int) -> None:
        self.begun_ns = begun_ns
        self.trace_id = str(uuid.uuid4())
        self.repeats = 0
        self.last_at = 0
        #: The worker's: what was stored, to be stored again with its repeats.
        self.stored: Captured | None = None


class ErrorRecorder(logging.Handler):
    """A logging handler that keeps ERROR and CRITICAL records in a trace store.

        logging.getLogger().addHandler(afterglow.ErrorRecorder(store))

    Each is an `episodic` entry, unresolved, tagged "error" and with its logger's name (or with
    `extra={"component": ...}`). The store closes this before itself. A forked child's errors are
    dropped, and counted, for the store is the parent's. `error_queue_size` and `error_window_s`
    are settings; `level` is logging's.
    """

    def __init__(
        self,
        store: ErrorStore,
        *,
        level: int = logging.ERROR,
        clock: Clock | None = None,
        start: bool = True,  # False: tests call step()
        **settings: Any,
    ) -> None:
        config = load(ErrorConfig, settings)
        self._store = store
        self._clock = clock or SystemClock()
        self._most = config.error_queue_size
        self._window_ns = round(config.error_window_s * 1e9)
        self._starts = start
        self._attached: list[logging.Logger] = []
        self._closed = False
        #: The newest thing that went wrong while storing.
        self.last_error: Exception | None = None
        self._begin()
        super().__init__(level)
        _hook_forks()
        _live.add(self)
        store.before_close(self.close)
        self._start()

    def _begin(self) -> None:
        """All that a forked child must not share with its parent."""
        # emit adds to these; whoever holds `_stepping` takes away. All by single atomic steps.
        self._queue: deque[tuple[_Window, Captured]] = deque()
        self._ages: deque[tuple[_Key, _Window]] = deque()
        self._windows: dict[_Key, _Window] = {}
        # emit counts these, under the lock of the handler:
        self._seen = self._repeated = self._dropped = self._queued = self._ignored = 0
        # Whoever holds `_stepping` has these:
        self._stored = self._failed = self._flush_failures = self._ignored_inside = 0
        self._over: list[_Window] = []
        self._unflushed = False
        self._stepping = threading.RLock()
        self._storing = threading.local()
        self._wake = threading.Event()
        self._resting = False
        self._thread: threading.Thread | None = None

    # --- in the thread that logs ----------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool:
        """Leave alone what is logged in the thread that is storing, before any lock."""
        if getattr(self._storing, "now", False):
            self._ignored_inside += 1
            return False
        return bool(super().handle(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; raises nothing, reads no file, waits for nothing."""
        if _is_ours(record.name):
            self._ignored += 1
            return
        self._seen += 1
        try:
            outcome = self._taken(record)
        except Exception:  # noqa: BLE001  a record that is no record: logging must go on
            outcome = "dropped"
        if outcome == "queued":
            self._queued += 1
        elif outcome == "repeated":
            self._repeated += 1
        else:
            self._dropped += 1

    def _taken(self, record: logging.LogRecord) -> Literal["queued", "repeated", "dropped"]:
        if self._closed:
            return "dropped"
        key = fingerprint(record)
        now = self._clock.monotonic_ns()
        window = self._windows.get(key)
        if window is not None and now - window.begun_ns < self._window_ns:
            window.repeats += 1
            window.last_at = int(record.created * 1e9)
            return "repeated"
        if len(self._queue) >= self._most or len(self._ages) >= _MOST_WINDOWS:
            return "dropped"
        captured = capture(record)
        self._windows[key] = window = _Window(now)
        self._ages.append((key, window))
        self._queue.append((window, captured))
        return "queued"

    # --- in the worker --------------------------------------------------------------------

    def step(self) -> None:
        """Store what waits, and the counts of windows that are over; flush. Raises nothing."""
        with self._stepping:
            self._storing.now = True
            try:
                while self._queue:
                    self._store_first()
                # What was over before this step: an emit that had the window in its hand when
                # it was taken out of the dict is done by now.
                over, self._over = self._over, self._windows_over()
                for window in over:
                    self._store_repeats(window)
                if self._unflushed:
                    self._flush_store()
            finally:
                self._storing.now = False

    def _store_first(self) -> None:
        window, captured = self._queue[0]
        try:
            self._put(window, described(captured), captured)
        except Exception as error:  # noqa: BLE001  a store of the user's; whatever it is, count it
            self.last_error = error
            self._failed += 1
        else:
            window.stored = captured
            self._stored += 1
        self._queue.popleft()

    def _windows_over(self) -> list[_Window]:
        now = self._clock.monotonic_ns()
        found: list[_Window] = []
        # In the order in which they began, so the first that is not over ends the search.
        while self._ages:
            key, window = self._ages[0]
            if not self._closed and now - window.begun_ns < self._window_ns:
                break
            self._ages.popleft()
            if self._windows.get(key) is window:
                self._windows.pop(key, None)
            found.append(window)
        return found

    def _store_repeats(self, window: _Window) -> None:
        captured = window.stored
        if not window.repeats or captured is None:
            return
        repeats = {"repeats": window.repeats, "last_at": window.last_at}
        try:
            self._put(window, described(captured) | repeats, captured)
        except Exception as error:  # noqa: BLE001  the entry is there; only its count is not
            self.last_error = error

    def _put(self, window: _Window, payload: dict[str, Any], captured: Captured) -> None:
        valence, intensity = _CRITICAL if captured.critical else _ERROR
        self._store.store(
            payload,
            kind="episodic",
            tags=("error", captured.component),
            valence=valence,
            intensity=intensity,
            trace_id=window.trace_id,
            confidence=_CONFIDENCE,
            unresolved=True,
        )
        self._unflushed = True

    def _flush_store(self) -> None:
        try:
            self._store.flush()
        except Exception as error:  # noqa: BLE001  it is in the store, for its next flush
            self.last_error = error
            self._flush_failures += 1
        self._unflushed = False

    # --- the life of it -------------------------------------------------------------------

    def counts(self) -> ErrorCounts:
        """Where every error went, at this moment."""
        self.acquire()  # no emit is half done
        try:
            stored, failed = self._stored, self._failed
            return ErrorCounts(
                seen=self._seen,
                stored=stored,
                repeated=self._repeated,
                dropped=self._dropped,
                failed=failed,
                waiting=self._queued - stored - failed,
                ignored=self._ignored + self._ignored_inside,
                flush_failures=self._flush_failures,
            )
        finally:
            self.release()

    def attach(self, logger: logging.Logger | str | None = None) -> None:
        """Listen to a logger (the root one if left out) until close()."""
        found = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)
        found.addHandler(self)
        self._attached.append(found)

    def flush(self) -> None:
        """Store what waits now, in the calling thread."""
        self.step()

    def close(self) -> None:
        """Stop listening, and store all that waits and all counts. Again does nothing."""
        for logger in self._attached:
            logger.removeHandler(self)
        self.acquire()  # the last emit that takes anything is done
        self._closed = True
        self.release()
        self._rest()
        self.step()
        self.step()
        _live.discard(self)
        super().close()

    def _start(self) -> None:
        if not self._starts or self._closed:
            return
        self._resting = False
        self._wake.clear()
        self._thread = threading.Thread(target=self._run, name="afterglow-errors", daemon=True)
        # In an empty context, so that no span of the program is current in our thread.
        contextvars.Context().run(self._thread.start)

    def _run(self) -> None:
        while not self._resting:
            self.step()
            self._clock.wait(self._wake, _POLL_S)

    def _rest(self) -> None:
        """End the thread; step() goes on where it left off."""
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._resting = True
            self._wake.set()
            thread.join()

    def after_fork_in_child(self) -> None:
        """The parent stores what waited; the store is the parent's, so here all is dropped."""
        self._begin()
        self._closed = True

    def before_fork(self) -> None:
        """Nobody forks beside our thread, nor in the middle of a step."""
        self._rest()

    def after_fork_in_parent(self) -> None:
        """The thread goes on."""
        self._start()


def _is_ours(logger: str) -> bool:
    return logger == _OURS or logger.startswith(f"{_OURS}.")


# --- forks ----------------------------------------------------------------------------------

_live: weakref.WeakSet[ErrorRecorder] = weakref.WeakSet()
_hooked = False


def _hook_forks() -> None:
    global _hooked  # noqa: PLW0603  once a process
    if not _hooked:
        _hooked = True
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=lambda: _each(ErrorRecorder.after_fork_in_parent),
            after_in_child=lambda: _each(ErrorRecorder.after_fork_in_child),
        )


def _before_fork() -> None:
    before, threads = _system_threads(), threading.active_count()
    _each(ErrorRecorder.before_fork)
    if threading.active_count() < threads:
        # A joined thread is still the system's for a moment: Python (from 3.12 on) would see it,
        # and warn of forking beside threads. A hundred turns are a millisecond.
        for _ in range(100):
            if _system_threads() < before:
                break
            os.sched_yield()


def _system_threads() -> int:
    """How many threads the system sees in this process; 0 where it does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 0


def _each(do: Callable[[ErrorRecorder], None]) -> None:
    for recorder in list(_live):
        do(recorder)
