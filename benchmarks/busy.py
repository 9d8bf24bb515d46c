"""What a child does beside a busy main thread: single calls, gaps, and spans at a steady rate."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.subjects import Subject

GAP_NS = 2_000_000
_SLICE_NS = 1_000_000
#: So often a subject that keeps its spans may throw them away.
_BETWEEN = 4_096


def percentiles(samples: list[int]) -> dict[str, float]:
    """p50, p99, p99.9 and the longest, in ns."""
    samples.sort()
    last = len(samples) - 1
    ranks = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: samples[round(rank * last)] for name, rank in ranks.items()}


def calls(subject: Subject, n: int) -> dict[str, Any]:
    """The time of each of `n` calls one after the other."""
    span, samples = subject.span, [0] * n
    now = perf_counter_ns
    for i in range(n):
        before = now()
        with span():
            pass
        samples[i] = now() - before
        if not i % _BETWEEN:
            subject.between()
    return percentiles(samples)


def busy(subject: Subject, rate: int, seconds: float) -> dict[str, Any]:
    """The main thread computes without a pause and makes `rate` spans a second.

    Each millisecond has its share of spans. Counts the gaps between two turns of the busy loop
    above 2 ms: the spans of a turn that took too long are made up for, so a recorder that is
    too slow falls behind and reaches less than `rate`.
    """
    span, now = subject.span, perf_counter_ns
    samples: list[int] = []
    append = samples.append
    begun = last = now()
    end = begun + int(seconds * 1e9)
    gaps = longest = made = thrown_at = 0
    while last < end:
        due = (last - begun) * rate // 1_000_000_000
        # At most two slices at once: a late loop must not turn into one long burst.
        for _ in range(min(due - made, 2 * rate * _SLICE_NS // 1_000_000_000 + 1)):
            before = now()
            with span():
                pass
            append(now() - before)
            made += 1
        if made - thrown_at > _BETWEEN:
            subject.between()
            thrown_at = made
        sum(range(200))  # the program's own work
        turn = now()
        if turn - last > GAP_NS:
            gaps += 1
        longest = max(longest, turn - last)
        last = turn
    subject.made += made
    return {
        **percentiles(samples),
        "gaps": gaps,
        "longest_gap": longest,
        "rate": made * 1e9 / (last - begun),
    }
