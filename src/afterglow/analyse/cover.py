"""How much of a span its children account for."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["covered_ns"]


def covered_ns(intervals: Iterable[tuple[int, int]], start_ns: int, end_ns: int) -> int:
    """The length of the union of `intervals`, clipped to `start_ns`..`end_ns`.

    The intervals (start, end) must come by ascending start; they may overlap, nest, and lie
    outside. One pass, nothing kept.
    """
    covered = 0
    reach = start_ns
    for start, end in intervals:
        if end <= reach:
            continue
        if start >= end_ns:
            break
        # Conditions rather than min and max, which cost three times as much: once a span.
        first = start if start > reach else reach
        last = end if end < end_ns else end_ns
        if last > first:
            covered += last - first
            reach = last
    return covered
