"""A sink beside what it counts, so that a supervisor hears of it from another process."""

from __future__ import annotations

from collections.abc import Sequence

from afterglow.counts import Counted, Counts
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentSink

__all__ = ["CountedSink"]


class CountedSink:
    """A ports.SegmentSink that is another one; `counted` is what that counts in `counts`."""

    def __init__(self, sink: SegmentSink, counts: Counts) -> None:
        self._sink = sink
        self._counts = counts

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self._sink.write(parts)

    def close(self) -> None:
        self._sink.close()

    def counted(self) -> Counted:
        """What its sinks counted since this process began."""
        return self._counts.read()
