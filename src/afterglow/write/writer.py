"""The writer: one daemon thread round one `step()`.

It takes spans from the hand-over, cleans them, and writes them to the sink in batches; it
keeps the books on what became of each. The program's threads never wait for it, but in
`flush`, `close` and (asked to) `block`.
"""

from __future__ import annotations

import contextlib
import contextvars
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

from afterglow.clock import Clock, breathe
from afterglow.config import RecordConfig, WriteConfig
from afterglow.errors import SinkUnavailableError
from afterglow.handover import Handover
from afterglow.model.clean import safe_str
from afterglow.model.flat import WIDTH, Flat
from afterglow.model.run import Process
from afterglow.ports import SpanBatch, SpanSink
from afterglow.write.batcher import batch_due, batch_spans, pause_ns, threshold
from afterglow.write.complaints import Complaints, to_stderr
from afterglow.write.delivery import Care, Delivery
from afterglow.write.flushes import Flushes
from afterglow.write.patience import Patience
from afterglow.write.prepare import prepare, scrub
from afterglow.write.state import State

__all__ = ["Writer"]

_NS: Final = 1_000_000_000
_FIRST_RETRY_NS: Final = 50_000_000
_LAST_RETRY_NS: Final = 1_000_000_000
#: Open spans and books are not looked at more often than this, however short the interval.
_STATE_NS: Final = 50_000_000
#: After taking so many spans, a breath: a busy program must not wait for a whole batch at a
#: time. With a larger backlog writing comes first: we get the lock back only 5 ms later.
_BREATH_AFTER: Final = range(1_000, 8_192)
#: How often one who waits looks whether writing goes on.
_LOOK_S: Final = 0.05
#: flush() and a fork wait at least so long for a sink that stands still.
_PATIENCE_NS: Final = 1_000_000_000


class Writer:
    """Brings spans from a hand-over to a sink; the arguments after `sink` are asked in its thread.

    process     this process, as the batches describe it
    seed        the high half of this process's trace ids
    open_rows   flat rows (the writer's to change) of the spans begun before a monotonic ns
    counts      calls that are counted instead of recorded, by name, since the start
    report      told, on one line and once a minute, what goes wrong

    Who owns what: whoever holds `_stepping` takes, prepares and writes; that is the thread, or
    a caller of flush() or close() while there is none. `_wake` ends a pause.
    """

    def __init__(
        self,
        handover: Handover,
        sink: SpanSink,
        *,
        process: Callable[[], Process],
        seed: Callable[[], int],
        open_rows: Callable[[int], Flat],
        counts: Callable[[], dict[str, int]],
        record: RecordConfig,
        config: WriteConfig,
        clock: Clock,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._handover = handover
        self._sink = sink
        self._record = record
        self._config = config
        self._clock = clock
        self._complaints = Complaints(report, clock)
        self._interval_ns = round(config.flush_interval_s * _NS)
        self._threshold = threshold(config.batch_size, config.max_queue_size)
        self._state = State(
            process=process,
            seed=seed,
            open_rows=open_rows,
            counts=counts,
            record=record,
            clock=clock,
            interval_ns=max(self._interval_ns, _STATE_NS),
            complaints=self._complaints,
        )
        self._begin()

    def _begin(self) -> None:
        """All that a forked child must not share with its parent."""
        self._delivery = Delivery(
            self._handover,
            self._sink,
            make=self._make,
            scrub=lambda flat: scrub(flat, self._record, self._handover.changed),
            wrote=self._state.wrote,
            elsewhere=self._state.forget,
            complaints=self._complaints,
        )
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stepping = threading.Lock()
        self._wake = threading.Event()
        self._handover.pressed = self._wake.set
        self._flushes = Flushes()
        self._resting = False  # a fork is under way: the thread ends, to be started anew
        self._closing = False
        self._close_claim = threading.Lock()
        self._ended = threading.Event()
        now = self._clock.monotonic_ns()
        #: Nothing that waits in the queue has waited since before this.
        self._since_ns = now
        self._busy_ns = now
        self._retry_ns = 0  # the pause after the newest failure; 0: none
        self._retry_at_ns = 0

    @property
    def wall_offset_ns(self) -> int:
        """Wall time = monotonic time + this, as the batches say."""
        return self._state.wall_offset_ns

    # --- the thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, unless it runs or there is no more to write."""
        with self._starting:
            if self._closing or (self._thread is not None and self._thread.is_alive()):
                return
            thread = threading.Thread(target=self._run, name="afterglow-writer", daemon=True)
            try:
                # In an empty context, so that no span of the program is current in our thread.
                contextvars.Context().run(thread.start)
            except RuntimeError as error:  # no more threads, or the interpreter goes down
                # flush() and close() write in their caller's thread instead.
                self._complaints.say_error("thread", "the writer's thread cannot start", error)
                return
            self._thread = thread

    def _run(self) -> None:
        # A signal must find one of the program's own threads: a program that blocks signals to
        # wait for them (sigwait) would die of one that the kernel gave to us.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._handover.taker = threading.get_ident()
        while not self._closing and not self._resting:
            if not self._careful_step():
                self._pause()
        if self._closing:
            self._finish()

    def _careful_step(self) -> bool:
        """A step that nothing can end the thread with."""
        try:
            return self.step()
        except BaseException as error:  # noqa: BLE001  e.g. SystemExit from some __str__
            self._complaints.say_error("step", "the writer stumbled and goes on", error)
            self._back_off()
            return False

    def _pause(self) -> None:
        now = self._clock.monotonic_ns()
        if self._retry_ns:
            pause = max(self._retry_at_ns - now, 0)
        else:
            pause = pause_ns(
                now - self._since_ns,
                now - self._busy_ns,
                self._interval_ns,
                self._config.max_queue_size,
            )
        self._clock.wait(self._wake, pause / _NS)
        self._wake.clear()

    # --- one step -----------------------------------------------------------------------

    def step(self) -> bool:
        """Write one batch if one is due; whether it did. Tests call it without a thread."""
        with self._stepping:
            # Whoever steps must never wait for a step: not in flush, close, or for room.
            taker, self._handover.taker = self._handover.taker, threading.get_ident()
            try:
                return self._step(self._clock.monotonic_ns())
            finally:
                self._handover.taker = taker

    def _step(self, now: int) -> bool:
        if not len(self._delivery):
            self._load(now)
        if not len(self._delivery):
            self._flushes.answer_done(empty=len(self._handover) == 0)
            return False
        if self._retry_ns and now < self._retry_at_ns and not self._hurry:
            return False
        return self._write()

    @property
    def _hurry(self) -> bool:
        return bool(self._flushes) or self._closing

    def _load(self, now: int) -> None:
        """Take a batch if one is due, of spans or of news beside them."""
        flushes = self._flushes.asked()
        waiting = len(self._handover)
        if waiting:
            self._busy_ns = now
        else:
            self._since_ns = now
        age = now - self._since_ns
        if (waiting and self._hurry) or batch_due(waiting, age, self._threshold, self._interval_ns):
            flat = self._handover.take(batch_spans(waiting, self._config.batch_size))
            taken = len(flat) // WIDTH
            if taken >= waiting:
                self._since_ns = now
            for flush in flushes:
                flush.waiting -= taken
            try:
                prepare(flat, self._record, self._handover.changed)
            finally:
                self._delivery.add(flat)  # in any case: it has been taken
            if taken in _BREATH_AFTER:
                breathe()
        elif not waiting and not self._closing and self._state.due(now):
            self._state.gather(now)
            if self._state.changed(self._handover.ledger()):
                self._delivery.add([])

    def _write(self) -> bool:
        try:
            self._delivery.attempt()
        except SinkUnavailableError as error:
            self._complaints.say("sink", f"{safe_str(error)} (spans wait; trying again)")
            self._back_off()
            return False
        if self._retry_ns:
            self._retry_ns = 0
            self._complaints.over("sink", "writing goes on")
        self._flushes.answer_done(empty=len(self._handover) == 0)
        return True

    def _back_off(self) -> None:
        self._retry_ns = min(max(2 * self._retry_ns, _FIRST_RETRY_NS), _LAST_RETRY_NS)
        self._retry_at_ns = self._clock.monotonic_ns() + self._retry_ns
        self._flushes.fail()

    def _make(self, flat: Flat, care: Care, last: bool) -> SpanBatch:
        ledger = self._handover.ledger(about_to_write=len(flat) // WIDTH)
        return self._state.batch(flat, care, ledger, last=last)

    # --- flush, close, fork ---------------------------------------------------------------

    def flush(self) -> bool:
        """Wait until all that was handed over before is written or dropped; whether it was.

        False if the sink cannot now, when it stands still for shutdown_timeout_s, and after
        close(). As long as writing makes progress, this waits.
        """
        if self._closing or threading.get_ident() == self._handover.taker:
            return False
        flush = self._flushes.ask(len(self._handover))
        if self._runs():
            self._wake.set()
            if not self._patiently(flush.answered, _PATIENCE_NS):
                return False
        else:
            while not flush.answered.is_set():
                self._careful_step()
        return flush.done

    def close(self) -> None:
        """Write all that was ended before, say goodbye, close the sink; in flight is then 0.

        Waits as long as writing makes progress; after shutdown_timeout_s without any, what is
        left is dropped, counted and reported. Twice does no harm.
        """
        self._handover.close()
        if threading.get_ident() == self._handover.taker:
            self._closing = True  # a finaliser, in the midst of a step: the thread will see
            self._wake.set()
            return
        if not self._close_claim.acquire(blocking=False):
            self._patiently(self._ended, _PATIENCE_NS)
            return
        with self._starting:
            self._closing = True
        self._wake.set()
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._finish()
        elif sys.is_finalizing() or not self._patiently(self._ended, _PATIENCE_NS // 4):
            self._abandon()  # a daemon thread does not run any more, or hangs in the sink
        else:
            thread.join(1.0)

    def before_fork(self) -> None:
        """In the parent: come to rest, for a child must not inherit a batch half written.

        Locks inside SQLite or zstd that our thread held would stay locked in the child for
        ever, and Python warns of forking beside threads. Bounded: a sink that hangs is left to.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return
        self._resting = True
        self._wake.set()
        thread.join(_PATIENCE_NS / _NS)

    def after_fork_in_parent(self) -> None:
        """In the parent: go on."""
        if self._resting:
            self._resting = False
            if not self._runs():
                self._thread = None
            self.start()

    def after_fork(self) -> None:
        """In the child: begin with nothing; the parent's spans are the parent's to write.

        The thread starts when the first span comes.
        """
        closed = self._closing
        self._handover.after_fork()
        self._sink.after_fork()
        self._state.after_fork()
        self._begin()
        if closed:
            self._closing = True
            self._close_claim.acquire()
            self._ended.set()
            self._handover.end()
        else:
            self._handover.wake_with(self.start)

    def _runs(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _patiently(self, event: threading.Event, extra_ns: int) -> bool:
        """Wait for an event as long as writing makes progress; whether it came."""
        patience = self._patience(extra_ns)
        while not self._clock.wait(event, _LOOK_S):
            if patience.over() or not self._runs():
                return event.is_set()
        return True

    def _patience(self, extra_ns: int = 0) -> Patience:
        limit_ns = round(self._config.shutdown_timeout_s * _NS) + extra_ns
        return Patience(self._clock, lambda: self._delivery.progress, limit_ns)

    # --- the end --------------------------------------------------------------------------

    def _finish(self) -> None:
        """Drain, say goodbye, close the sink: in the thread, or its caller where there is none."""
        patience = self._patience()
        goodbye = False
        while not self._ended.is_set():
            if not len(self._delivery) and not len(self._handover):
                if goodbye:
                    break
                goodbye = True
                self._delivery.add([], last=True)
            self._careful_step()
            if patience.over():
                self._drop_rest()
                break
            if self._retry_ns:
                self._clock.wait(self._ended, min(self._retry_ns, _FIRST_RETRY_NS) / _NS)
        self._handover.end()
        if not self._ended.is_set():
            try:
                self._sink.close()
            except Exception as error:  # noqa: BLE001  the program ends well all the same
                self._complaints.say_error("close", "the sink cannot be closed", error)
        self._flushes.fail()
        self._ended.set()

    def _drop_rest(self) -> None:
        left = self._delivery.give_up("shutdown_timeout")
        waiting = len(self._handover.take(len(self._handover) + 1)) // WIDTH
        self._handover.settle(dropped={"shutdown_timeout": waiting})
        timeout = self._config.shutdown_timeout_s
        self._complaints.tell(
            f"gave up after {timeout:g} s without progress: {left + waiting} spans are lost"
        )

    def _abandon(self) -> None:
        self._ended.set()
        self._drop_rest()
        self._handover.end()
