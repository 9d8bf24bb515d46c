"""Counts of processes that die and are started again, as counters that only go up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import msgspec

from afterglow.counts import Counted, Labels
from afterglow.flush.flusher import FlushCounts
from afterglow.flush.supervisor import FlusherStatus
from afterglow.ledger import CollectCounter

__all__ = ["Tally"]

Name = TypeVar("Name", bound=Hashable)
_Key = tuple[CollectCounter, Labels]


class _Sum(Generic[Name]):
    """What one flusher counted in all its processes; each begins at 0."""

    def __init__(self) -> None:
        self._last: Mapping[Name, int] = {}
        self._before: Counter[Name] = Counter()

    def now(self, counted: Mapping[Name, int]) -> dict[Name, int]:
        if any(counted.get(name, 0) < count for name, count in self._last.items()):
            self._before.update(self._last)
        self._last = dict(counted)
        return dict(self._before + Counter(counted))


class Tally:
    """One thread at a time."""

    def __init__(self) -> None:
        self._flushed: dict[int, _Sum[str]] = {}
        self._counted: dict[int, _Sum[_Key]] = {}

    def flushed(self, status: FlusherStatus) -> FlushCounts:
        """What a flusher did since the service began."""
        counts = self._flushed.setdefault(status.number, _Sum())
        return FlushCounts(**counts.now(msgspec.structs.asdict(status.counts)))

    def counted(self, statuses: list[FlusherStatus]) -> Counted:
        """What the sinks of all flushers counted since then."""
        total: Counter[_Key] = Counter()
        for status in statuses:
            total.update(self._counted.setdefault(status.number, _Sum()).now(status.counted))
        return dict(total)
