"""For tests, yours and ours: a clock moved by hand, sinks that list, wait or fail.

sink = ListSink()
with afterglow.Tracer(sink) as tracer:
    with tracer.span("work"):
        ...
assert [span.name for span in sink.spans] == ["work"]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from afterglow.errors import SinkUnavailableError
from afterglow.model.span import Span
from afterglow.ports import SpanBatch
from afterglow.store.columns import encode_batch

__all__ = ["FailingSink", "ListSink", "ManualClock"]


class ManualClock:
    """A clock that stands still until `advance_s` moves it; `wait` never sleeps.

    `wait` moves the clock on by the timeout and says whether the event was set, so a loop
    round it runs as fast as the machine: for steps called by hand, not for a real thread.
    """

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = 1_000_000_000
        self._wall_ns = wall_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance_s(self, seconds: float) -> None:
        """Move both clocks on."""
        nanoseconds = round(seconds * 1e9)
        self._monotonic_ns += nanoseconds
        self._wall_ns += nanoseconds

    def step_wall_s(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP or an administrator does."""
        self._wall_ns += round(seconds * 1e9)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if not event.is_set():
            self.advance_s(timeout_s)
        return event.is_set()


class ListSink:
    """Keeps every batch in a list; takes what a real sink can encode, and nothing else."""

    def __init__(self) -> None:
        self.batches: list[SpanBatch] = []
        self.closed = False

    @property
    def spans(self) -> list[Span]:
        """All finished spans so far, in the order of their ends."""
        return [span for batch in self.batches for span in batch.spans()]

    def write(self, batch: SpanBatch) -> None:
        encode_batch(batch)
        self.batches.append(batch)

    def after_fork(self) -> None:
        self.batches = []

    def close(self) -> None:
        self.closed = True

    def counters(self) -> Mapping[str, int]:
        return {"batches": len(self.batches)}


class FailingSink(ListSink):
    """A ListSink that raises while `failing` is set, what `error` makes."""

    def __init__(self, error: Callable[[], Exception] | None = None) -> None:
        super().__init__()
        self.failing = threading.Event()
        self.failing.set()
        self.attempts = 0
        self._error = error or (lambda: SinkUnavailableError("told to fail"))

    def write(self, batch: SpanBatch) -> None:
        self.attempts += 1
        if self.failing.is_set():
            raise self._error()
        super().write(batch)
