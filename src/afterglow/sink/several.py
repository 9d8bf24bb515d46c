"""Several sinks at once: each page to all of them, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.counts import Counts
from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.model.clean import safe_str
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentSink
from afterglow.sink.outgoing_pages import spans_of_parts
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["Several"]

#: Of pages that not all sinks took, so many message ids are remembered by each lane.
_MOST_KNOWN: Final = 100_000


class _Lane:
    """One sink and its thread. Between `give` and `idle` all but `known` is the thread's."""

    def __init__(
        self, name: str, sink: SegmentSink, counts: Counts, complaints: Complaints
    ) -> None:
        self.name = name
        self._sink = sink
        self._counts = counts
        self._complaints = complaints
        #: Parts of pages that the others do not all have: True if this sink has one, False if it
        #: refused it for ever. Written by the thread, read and cleared while it is idle.
        self.known: dict[str, bool] = {}
        self.error: Exception | None = None
        self.idle = threading.Event()
        self.idle.set()
        self._inbox: SimpleQueue[list[SegmentPart] | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=f"afterglow sink {name}", daemon=True
        )
        self._thread.start()

    def give(self, parts: Sequence[SegmentPart]) -> None:
        """Begin to write what this sink has not got; `idle` is set when that is over."""
        self.error = None
        missing = [part for part in parts if part.message_id not in self.known]
        if missing:
            self.idle.clear()
            self._inbox.put(missing)

    def close(self, within_s: float) -> None:
        """Close the sink, in its thread, once it has what it was given; not waited for longer."""
        self._inbox.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        while (parts := self._inbox.get()) is not None:
            try:
                self._write(parts)
            except Exception as error:  # noqa: BLE001  raised again by whoever waits
                self.error = error
            self.idle.set()
        self._sink.close()

    def _write(self, parts: list[SegmentPart]) -> None:
        """Write; where it is refused for ever, in halves, until the guilty part stands alone."""
        groups = [parts]
        while groups:
            group = groups.pop()
            has = True
            try:
                self._sink.write(group)
            except SinkUnavailableError:
                raise
            except SinkError as error:
                if len(group) > 1:
                    middle = len(group) // 2
                    groups += [group[middle:], group[:middle]]
                    continue
                has = False
                self._refused(group, error)
            self.known.update((part.message_id, has) for part in group)

    def _refused(self, group: list[SegmentPart], error: SinkError) -> None:
        spans = spans_of_parts(group)
        self._counts.add("sink_dropped_spans", spans, sink=self.name, reason="sink_refused")
        root = group[0].root_span_id.hex()
        self._complaints.say("refused", f"{self.name} refuses segment {root} for ever: {error}")


class Several:
    """A ports.SegmentSink that gives each page to several sinks at once.

    `write` returns when each has the page safe. It waits `bound_s` at most: where a sink is away,
    or slower than that, it raises SinkUnavailableError, and on the repeat only those that have not
    got a part are given it (what this object knows of that is gone with it: sinks keep one of each
    message id anyway). A sink that may be away for long belongs into an `Outgoing`, so that the
    others go on. A part that one sink refuses for ever is counted for it (`sink_dropped_spans`) and
    is no trouble of the others; SinkError is raised where all of them refuse it.

    Each sink is called by one thread alone, which closes it, too.
    """

    def __init__(
        self,
        sinks: Mapping[str, SegmentSink],
        *,
        bound_s: float = 10.0,
        counts: Counts | None = None,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._bound_s = bound_s
        self._clock = clock or SystemClock()
        counts = counts or Counts()
        self._lanes = [
            _Lane(name, sink, counts, Complaints(report, self._clock))
            for name, sink in sinks.items()
        ]
        self._closed = False

    def write(self, parts: Sequence[SegmentPart]) -> None:
        """Give all sinks a page. Raises SinkUnavailableError, SinkError, and what a sink raised."""
        if self._closed:
            raise SinkError("the sinks were closed")
        until_ns = self._clock.monotonic_ns() + round(self._bound_s * 1e9)
        started = [lane for lane in self._lanes if lane.idle.is_set()]
        for lane in started:
            lane.give(parts)
        away = [self._outcome(lane, until_ns) for lane in started]
        for lane in self._lanes:
            if lane not in started:  # it had an earlier page in hand: this one comes behind it
                if (slow := self._outcome(lane, until_ns)) is None or lane.idle.is_set():
                    lane.give(parts)
                    slow = self._outcome(lane, until_ns)
                away.append(slow)
        reasons = [reason for reason in away if reason is not None]
        if reasons:
            self._keep_in_bounds()
            raise SinkUnavailableError("; ".join(reasons))
        self._whole(parts)

    def close(self) -> None:
        """Close each sink; one that hangs is not waited for longer than the bound."""
        if not self._closed:
            self._closed = True
            for lane in self._lanes:
                lane.close(self._bound_s)

    def _outcome(self, lane: _Lane, until_ns: int) -> str | None:
        """Wait for a lane: None when it has it all, else why not. Raises what nobody foresaw."""
        left_ns = max(until_ns - self._clock.monotonic_ns(), 0)
        if not lane.idle.is_set() and not self._clock.wait(lane.idle, left_ns / 1e9):
            return f"{lane.name} has not taken a page for {self._bound_s:g} s"
        error, lane.error = lane.error, None
        if error is None:
            return None
        if isinstance(error, SinkUnavailableError):
            return f"{lane.name}: {safe_str(error)}"
        raise error

    def _whole(self, parts: Sequence[SegmentPart]) -> None:
        """Every sink has the page or refused it: what was remembered of it may go.

        Raises SinkError for parts that all refused: the flusher drops and counts these. It asks
        for each part alone then, so the others are remembered until they come.
        """
        nobody = [
            part
            for part in parts
            if not any(lane.known.get(part.message_id, True) for lane in self._lanes)
        ]
        if len(parts) == 1 or not nobody:
            for lane in self._lanes:
                for part in parts:
                    lane.known.pop(part.message_id, None)
        if nobody:
            names = ", ".join(lane.name for lane in self._lanes)
            raise SinkError(f"refused for ever by {names}")
        self._keep_in_bounds()

    def _keep_in_bounds(self) -> None:
        for lane in self._lanes:
            while lane.idle.is_set() and len(lane.known) > _MOST_KNOWN:
                del lane.known[next(iter(lane.known))]
