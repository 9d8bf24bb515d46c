"""A disk queue before a sink that may be away for long: senders go on, and the books stay exact.

What is given goes to the sink at once while that answers, and nothing waits. Otherwise it goes to
files in a folder, and a thread sends it from there, in order, when the other side is back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.config import BufferConfig, SendConfig
from afterglow.counts import Counts
from afterglow.errors import SinkError, SinkUnavailableError, SpoolError
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentSink
from afterglow.sink.outgoing_books import SentBooks, read_books
from afterglow.sink.outgoing_pages import chunks, full_jitter_s, spans_of_parts
from afterglow.sink.outgoing_queue import Job, Queue
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["Outgoing", "read_books"]

_IDLE_S: Final = 60.0


class Outgoing:
    """A ports.SegmentSink round a sink that may be away for hours.

    When `write` returns, every part was sent, or is in the queue, or was refused for ever by the
    sink and counted (the flusher is never told of that: it is in these books). It raises
    SinkUnavailableError when the queue is full (`on_full` is `refuse`) or the disk is.

    A message id that was taken is known for `remember_s` at least, over restarts too, and not sent
    again. It is sent again where the process died after the other side took it and before the books
    said so (one chunk of `max_request_bytes` at most, or one larger part), and where another
    Outgoing, with a folder of its own, is given it.

    `folder` is this object's alone: another process that has it open is a SinkError. The sink is
    called by one thread at a time; `close` closes it, and what is queued stays for the next start.
    With `threaded` off nothing is sent from the queue but by `step`.
    """

    def __init__(
        self,
        name: str,
        sink: SegmentSink,
        folder: str | os.PathLike[str],
        config: SendConfig | None = None,
        *,
        counts: Counts | None = None,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
        chance: Callable[[], float] | None = None,
        remember_s: float = BufferConfig().tombstone_s,
        threaded: bool = True,
    ) -> None:
        self.name = name
        self.folder = Path(folder)
        self._sink = sink
        self._config = config or SendConfig()
        self._counts = counts or Counts()
        self._clock = clock or SystemClock()
        self._complaints = Complaints(report, self._clock)
        self._chance = chance or Random().random
        try:
            self._queue = Queue(
                name,
                self.folder,
                self._config,
                counts=self._counts,
                clock=self._clock,
                complaints=Complaints(report, self._clock),
                remember_s=remember_s,
            )
        except SpoolError as error:
            raise SinkError(f"{name} cannot wait on the disk: {error}") from error
        #: Guards the queue and `_job`; never held while something is sent.
        self._lock = threading.Lock()
        #: Held by whoever calls the sink.
        self._sending = threading.Lock()
        self._job: Job | None = None
        self._failures = 0
        self._not_before_ns = 0
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(
                target=self._run, name=f"afterglow sends to {name}", daemon=True
            )
            self._thread.start()

    # --- the flusher's side ---------------------------------------------------------------------

    def write(self, parts: Sequence[SegmentPart]) -> None:
        """Have parts sent or queued. Raises SinkUnavailableError when neither can be."""
        if self._closed:
            raise SinkError(f"{self.name} was closed")
        until_ns = self._clock.monotonic_ns() + round(self._config.patience_s * 1e9)
        job = self._job
        if job is not None and job.position is None:
            self._await(job, until_ns)  # of a page that came back while it was being sent
        with self._lock:
            fresh = self._queue.fresh(parts)
        for chunk in chunks(fresh, self._config.max_request_bytes):
            job = Job(chunk)
            with self._lock:
                direct = self._may_go_at_once()
                if direct:
                    self._job = job
                else:
                    self._put(job)
            self._wake.set()
            if direct and self._thread is None:
                with self._sending:
                    self._attempt(job)
                _raise(job)
            elif direct:
                self._await(job, until_ns)

    def books(self) -> SentBooks:
        """Where every span went, over all restarts."""
        with self._lock:
            return self._queue.books()

    def close(self) -> None:
        """Stop sending; the queue stays on the disk. Waits for the request under way."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._sink.close()
        with self._lock:
            self._queue.close()

    def _await(self, job: Job, until_ns: int) -> None:
        """Wait for what is being sent; what takes too long is put into the queue meanwhile."""
        left_ns = max(until_ns - self._clock.monotonic_ns(), 0)
        if not self._clock.wait(job.over, left_ns / 1e9):
            with self._lock:
                if not job.over.is_set():
                    self._put(job)
        _raise(job)

    def _may_go_at_once(self) -> bool:
        """The other side answers as far as we know, and nothing waits before it."""
        return (
            self._job is None
            and not len(self._queue)
            and self._clock.monotonic_ns() >= self._not_before_ns
        )

    def _put(self, job: Job) -> None:
        """Into the queue. The lock is held. Raises SinkUnavailableError."""
        first = self._job if self._job is not job else None
        self._queue.put(job, first)
        if first is not None and first.dropped:
            self._job = None

    # --- the sender's side ----------------------------------------------------------------------

    def step(self) -> float:
        """Send one job, if there is one and the time has come; seconds to wait before the next."""
        with self._sending:
            with self._lock:
                wait_ns = self._not_before_ns - self._clock.monotonic_ns()
                if wait_ns > 0:
                    return wait_ns / 1e9
                job = self._job = self._job or self._queue.next()
            if job is None:
                return _IDLE_S
            self._attempt(job)
            return max(self._not_before_ns - self._clock.monotonic_ns(), 0) / 1e9

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                wait_s = self.step()
            except Exception as error:  # noqa: BLE001  a thread that ended would lose by silence
                self._complaints.say_error("step", f"sending to {self.name} stumbled", error)
                wait_s = self._config.retry_s
            if not self._closed:
                self._clock.wait(self._wake, wait_s)

    def _attempt(self, job: Job) -> None:
        """Send a job, and book what became of it. `_sending` is held."""
        try:
            self._send(job)
        except SinkUnavailableError as error:
            self._failed(job, str(error), error.retry_after_s)
        except Exception as error:  # noqa: BLE001  nobody foresaw it: kept, said, tried again
            self._failed(job, f"{type(error).__name__}: {error}", 0.0)
        else:
            self._done(job)

    def _send(self, job: Job) -> None:
        """Write group by group; one that is refused is halved until the guilty part is alone."""
        while job.groups:
            group = job.groups[0]
            spans = spans_of_parts(group)
            before: int = getattr(self._sink, "rejected_spans", 0)
            try:
                self._sink.write(group)
            except SinkUnavailableError:
                raise
            except SinkError as error:
                if len(group) > 1:
                    middle = len(group) // 2
                    job.groups[:1] = [group[:middle], group[middle:]]
                    continue
                job.refused += spans
                root = group[0].root_span_id.hex()
                self._complaints.say("refused", f"segment {root} is refused for ever: {error}")
            else:
                rejected = min(getattr(self._sink, "rejected_spans", 0) - before, spans)
                job.sent += spans - rejected
                job.refused += rejected
            del job.groups[0]

    def _done(self, job: Job) -> None:
        self._failures = 0
        self._complaints.over("away", f"{self.name} takes spans again")
        with self._lock:
            if not job.dropped:
                self._queue.settle(job)
                self._job = None
            job.over.set()

    def _failed(self, job: Job, why: str, retry_after_s: float) -> None:
        config = self._config
        self._failures += 1
        self._counts.add("sink_retries", sink=self.name)
        wait_s = full_jitter_s(config.retry_s, config.max_retry_s, self._failures, self._chance())
        self._not_before_ns = self._clock.monotonic_ns() + round(max(wait_s, retry_after_s) * 1e9)
        self._complaints.say("away", f"{self.name} is away, {why}; spans wait in {self.folder}")
        with self._lock:
            if job.dropped or job.position is not None:
                return
            self._queue.settle(job)
            try:
                self._put(job)
            except SinkUnavailableError as again:
                job.error = again
                self._job = None
                job.over.set()


def _raise(job: Job) -> None:
    if job.error is not None:
        raise job.error
