"""The seams: who may block, who retries, and what close promises.

SpanSink       where the writer puts batches of finished spans (a journal, a list, OTLP ...)
SegmentBuffer  where collectors add spans and flushers take segments (memory, Redis)
SegmentSink    where flushers put segments (the store, OTLP, Kafka ...)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from afterglow.ledger import BufferDropReason, Ledger
from afterglow.model.flat import WIDTH, Flat, spans_of
from afterglow.model.run import Process
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, SegmentPart
from afterglow.model.span import Span

__all__ = ["SegmentBuffer", "SegmentSink", "SpanBatch", "SpanSink"]


class SpanBatch(msgspec.Struct, frozen=True):
    """What the writer gives a sink in one call; it may be without any finished span.

    `flat` holds finished spans (see model/flat.py), `open` the spans that had been open for
    longer than a flush interval when the batch was made (END is None): it replaces what the
    batch before said of open spans, and None says that what it said still stands, but for spans
    that have finished since. In both, names are str and attribute values are of the types
    that attributes have; a text may still hold what UTF-8 cannot, an int be too wide.
    """

    flat: Flat
    open: Flat | None
    process: Process
    seed: int
    wall_offset_ns: int
    #: The books as they will stand once this batch is written.
    ledger: Ledger
    #: Calls of functions that are counted instead of recorded, by name, since the start.
    counts: dict[str, int] = {}
    #: The process says goodbye: nothing follows this batch.
    last: bool = False

    def __len__(self) -> int:
        """How many finished spans."""
        return len(self.flat) // WIDTH

    def spans(self) -> Iterator[Span]:
        """The finished spans as frozen values."""
        return self._values(self.flat)

    def open_spans(self) -> Iterator[Span]:
        """The open spans as frozen values, without an end."""
        return self._values(self.open or [])

    def _values(self, flat: Flat) -> Iterator[Span]:
        return spans_of(
            flat,
            seed=self.seed,
            wall_offset_ns=self.wall_offset_ns,
            run_id=self.process.run_id,
            pid=self.process.pid,
        )


class SpanSink(Protocol):
    """Takes batches from one writer thread; never called by two threads at once.

    `write` may block (it runs in the writer's thread, never in the program's). When it
    returns, the batch survives the death of the process. It raises SinkUnavailableError
    where the same batch may succeed later (the writer keeps the spans in the bounded queue,
    tries again, and reports once a minute), UnencodableError where a value is at fault (the
    writer cleans each value and tries once more), and SinkError where it never will (the
    writer counts the spans as dropped, `sink_refused`). Any other exception is treated as
    SinkError. A batch that `write` raised for must not be half there.

    `after_fork` is called in a forked child before its first `write`: the child must
    neither write to nor close what belongs to its parent.

    `close` releases what the sink holds, and may be called twice.
    """

    def write(self, batch: SpanBatch) -> None: ...

    def after_fork(self) -> None: ...

    def close(self) -> None: ...

    def counters(self) -> Mapping[str, Any]:
        """What the sink counts on its own (bytes, files, spans lost to a limit)."""
        ...


class SegmentBuffer(Protocol):
    """Holds spans until their trees are there, then hands each tree on.

    Any number of threads and processes may add and take at once. Time is the caller's:
    `now_ns` is ns since 1970, and a backlog may be replayed by the time of its messages.
    Order, batching and repeats of what is added do not matter to what comes out, once
    addenda are merged. Delivery is at least once, with message ids that do not change.
    """

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> AddResult:
        """Take spans in. May block for the buffer's timeout; refuses rather than waits longer.

        When it returns, accepted spans survive what the buffer promises to survive. A refusal is
        a value, and the same call may be repeated. Raises nothing for what a sender did wrong.
        """
        ...

    def take_due(
        self,
        now_ns: int,
        *,
        owner: str,
        shards: Collection[int] | None = None,
        max_segments: int = 1_000,
        max_bytes: int = 32 << 20,
    ) -> Iterator[list[SegmentPart]]:
        """Pages of parts that are due, each of about `max_bytes` of payload at most.

        At most `max_segments` segments in all, but for the rest of a trace of which one is taken;
        `shards` None is all of them. What is taken is leased to `owner` for `lease_s`: it is
        delivered again, the same, when it was neither acknowledged nor released by then. The
        parts of one segment come in order. Acknowledge a page before asking for the next, or
        later; leaving the iterator early leaves what it took leased.
        """
        ...

    def acknowledge(
        self, parts: Sequence[SegmentPart], *, dropped: BufferDropReason | None = None
    ) -> int:
        """These parts are safe elsewhere: forget them. Returns how many were still ours.

        With `dropped` they are safe nowhere: their spans are counted as dropped for that reason
        rather than as delivered, in the same step. Parts whose fence is no longer valid
        (somebody else took them over) are left alone.
        """
        ...

    def release(self, parts: Sequence[SegmentPart]) -> None:
        """Give leased parts back: the same parts are due again at once, for anybody."""
        ...

    def ledger(self) -> BufferBooks:
        """The books of everything that shares this buffer."""
        ...

    def close(self) -> None:
        """Give connections back; what is held stays, where the buffer outlives the process."""
        ...


class SegmentSink(Protocol):
    """Takes pages of segment parts from one flusher; never called by two threads at once.

    `write` may block; when it returns, the parts survive the death of this process. It may
    be given the same message ids again and keeps one of each, or says in its docstring that it
    does not. It raises SinkUnavailableError where the same page may succeed later (the flusher
    waits and tries again), and SinkError where it never will (the flusher counts the spans as
    dropped, `sink_refused`). Any other exception ends the flusher: nothing is lost by that, and the
    supervisor starts another. A page that `write` raised for may be half there.

    `close` releases what the sink holds, and may be called twice.
    """

    def write(self, parts: Sequence[SegmentPart]) -> None: ...

    def close(self) -> None: ...
