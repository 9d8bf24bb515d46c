"""The seams: who may block, who retries, and what close promises.

SpanSink      where the writer puts batches of finished spans (a journal, a list, OTLP ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from afterglow.ledger import Ledger
from afterglow.model.flat import WIDTH, Flat, spans_of
from afterglow.model.run import Process
from afterglow.model.span import Span

__all__ = ["SpanBatch", "SpanSink"]


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
