"""What a flusher counts begins at 0 in each of its processes: here is the sum over all of them."""

from __future__ import annotations

from collections import Counter

import msgspec

from afterglow.counts import Counted
from afterglow.flush.flusher import FlushCounts

__all__ = ["Tally"]


class Tally:
    """Of one flusher; the thread of its supervisor alone touches it."""

    def __init__(self) -> None:
        self._counts = FlushCounts()
        self._counted: Counted = {}
        self._counts_before: Counter[str] = Counter()
        self._counted_before: Counted = {}

    def heard(self, counts: FlushCounts, counted: Counted) -> None:
        """What the process that runs has counted so far."""
        self._counts, self._counted = counts, counted

    def begun(self) -> None:
        """Another process begins."""
        self._counts_before.update(msgspec.structs.asdict(self._counts))
        self._counted_before = self.counted()
        self._counts, self._counted = FlushCounts(), {}

    def counts(self) -> FlushCounts:
        """What it did since its supervisor began."""
        now = msgspec.structs.asdict(self._counts)
        return FlushCounts(**{name: n + self._counts_before[name] for name, n in now.items()})

    def counted(self) -> Counted:
        """What its sinks counted since then."""
        return dict(Counter(self._counted_before) + Counter(self._counted))
