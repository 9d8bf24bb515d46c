"""Statistics by name, streaming: memory in proportion to the number of names.

Percentiles come from a logarithmic histogram whose buckets are the upper 16 bits of the
duration as a 32-bit float: 8 significant bits, so a bucket is at most 1/128 wide and its
middle at most 0.4 % off; durations below 256 ns are exact. Cutting a column to buckets is
then two conversions in C, and counting them a third.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from afterglow.model.span import Span
from afterglow.model.statistics import NameStatistics

__all__ = ["Statistics", "bucket_value", "buckets", "statistics_of"]

# The half of a float that holds sign, exponent and the first bits of the fraction.
_UPPER_HALF = 1 if sys.byteorder == "little" else 0
# Values wait here until there are enough of them for the C functions to be worth calling.
_WAITING_VALUES = 1 << 16


def buckets(durations_ns: Sequence[int]) -> list[int]:
    """The bucket of each duration."""
    return memoryview(array("f", durations_ns)).cast("B").cast("H").tolist()[_UPPER_HALF::2]


def bucket_value(bucket: int) -> float:
    """The middle of a bucket, ns."""
    value: float = struct.unpack("=f", struct.pack("=I", bucket << 16 | 0x8000))[0]
    # Bucket 0 holds 0 only: the smallest duration above it is 1.
    return value if bucket & 0x7FFF else 0.0


class _Name:
    """One name's figures so far."""

    __slots__ = (
        "buckets", "count", "errors", "interrupted", "max", "min", "self_ns", "total", "waiting"
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.self_ns: int | None = 0
        self.min = 0
        self.max = 0
        self.errors = 0
        self.interrupted = 0
        self.buckets: Counter[int] = Counter()
        self.waiting: list[int] = []

    def settle(self) -> None:
        """Count the durations that wait."""
        values = self.waiting
        if not values:
            return
        low, high = min(values), max(values)
        self.min = min(self.min, low) if self.count else low
        self.max = max(self.max, high) if self.count else high
        self.count += len(values)
        self.total += sum(values)
        self.buckets.update(buckets(values))
        self.waiting = []

    def percentiles(self, shares: Sequence[float]) -> list[int]:
        """By nearest rank; `shares` ascending."""
        if not self.count:
            return [0 for _ in shares]
        found: list[int] = []
        ranks = iter([max(1, ceil(share * self.count)) for share in shares])
        rank = next(ranks)
        seen = 0
        for value, count in sorted((bucket_value(b), n) for b, n in self.buckets.items()):
            seen += count
            while seen >= rank:
                found.append(min(max(int(value), self.min), self.max))
                rank = next(ranks, 1 << 63)
        return found


class Statistics:
    """Takes spans in columns, in any order and any portions; gives figures by name."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._waiting = 0

    def _of(self, name: str) -> _Name:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = _Name()
        return found

    def add(
        self, name: str, durations_ns: Iterable[int], *, self_ns: int | None, errors: int
    ) -> None:
        """Finished spans of one name: each duration, and the sums of the rest."""
        entry = self._of(name)
        before = len(entry.waiting)
        entry.waiting.extend(durations_ns)
        self._waiting += len(entry.waiting) - before
        entry.errors += errors
        # None once is None for ever: a sum of which a part is unknown is no sum.
        if self_ns is None or entry.self_ns is None:
            entry.self_ns = None
        else:
            entry.self_ns += self_ns
        if self._waiting > _WAITING_VALUES:
            self._settle()

    def add_interrupted(self, name: str, count: int = 1) -> None:
        """Spans that never ended."""
        self._of(name).interrupted += count

    def add_counted(
        self,
        name: str,
        histogram: Mapping[int, int],
        *,
        total_ns: int,
        self_ns: int | None,
        min_ns: int,
        max_ns: int,
        errors: int,
    ) -> None:
        """Finished spans of one name that were counted before: `histogram` is by bucket."""
        entry = self._of(name)
        count = sum(histogram.values())
        if count:
            entry.settle()
            entry.min = min(entry.min, min_ns) if entry.count else min_ns
            entry.max = max(entry.max, max_ns) if entry.count else max_ns
            entry.count += count
            entry.total += total_ns
            entry.buckets.update(histogram)
        self.add(name, (), self_ns=self_ns, errors=errors)

    def _settle(self) -> None:
        for entry in self._names.values():
            entry.settle()
        self._waiting = 0

    def result(self) -> list[NameStatistics]:
        """Most self time first (total time where it is not known), then by name."""
        self._settle()
        result = []
        for name, entry in self._names.items():
            p50, p95, p99 = entry.percentiles((0.50, 0.95, 0.99))
            result.append(
                NameStatistics(
                    name=name,
                    count=entry.count,
                    total_ns=entry.total,
                    self_ns=entry.self_ns or 0,
                    self_known=entry.self_ns is not None,
                    p50_ns=p50,
                    p95_ns=p95,
                    p99_ns=p99,
                    min_ns=entry.min,
                    max_ns=entry.max,
                    errors=entry.errors,
                    interrupted=entry.interrupted,
                )
            )
        return sorted(result, key=lambda s: (-(s.self_ns if s.self_known else s.total_ns), s.name))


def statistics_of(spans: Iterable[tuple[Span, int | None]]) -> list[NameStatistics]:
    """Figures by name of spans with their self times (ns; None where unknown)."""
    statistics = Statistics()
    for span, self_ns in spans:
        duration = span.duration_ns
        if duration is None:
            statistics.add_interrupted(span.name)
        else:
            statistics.add(span.name, (duration,), self_ns=self_ns, errors=span.status == "error")
    return statistics.result()
