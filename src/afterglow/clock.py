"""The only file that reads the time or waits for it.

Two clocks: `monotonic_ns` for durations and order within a process, `wall_ns` for what
a person reads. A span is timed by the first alone; `Anchor` ties the two together once,
so that a stepped wall clock never makes a negative duration.
"""

from __future__ import annotations

import threading
from time import perf_counter_ns as monotonic_ns
from time import sleep
from time import time_ns as wall_ns
from typing import NamedTuple, Protocol

__all__ = [
    "Anchor",
    "Clock",
    "SteadyClock",
    "SystemClock",
    "anchor_now",
    "anchor_of",
    "breathe",
    "monotonic_ns",
    "wall_ns",
]


class Anchor(NamedTuple):
    """One moment on both clocks: wall time = monotonic time + `offset_ns`."""

    offset_ns: int

    def wall(self, monotonic: int) -> int:
        """Wall-clock nanoseconds since 1970 of a monotonic reading."""
        return monotonic + self.offset_ns


def anchor_now() -> Anchor:
    """Read both clocks as close together as we can (the best of three)."""
    return anchor_of(_SYSTEM)


def anchor_of(clock: Clock) -> Anchor:
    """The same of any clock."""
    best_width, best_offset = 1 << 62, 0
    for _ in range(3):
        before = clock.monotonic_ns()
        wall = clock.wall_ns()
        after = clock.monotonic_ns()
        if after - before < best_width:
            best_width, best_offset = after - before, wall - (before + after) // 2
    return Anchor(best_offset)


def breathe() -> None:
    """Let go of the interpreter lock for long enough that a thread which waits for it gets it.

    Work in pieces, with a breath between them, holds up a busy program by a piece at a time.
    """
    sleep(0.000_1)


class Clock(Protocol):
    """What a loop asks instead of reading the time itself; tests move it by hand."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never goes back."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 (UTC)."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until `event` is set (True) or `timeout_s` has passed (False)."""
        ...


class SystemClock:
    """The real clock."""

    def monotonic_ns(self) -> int:
        return monotonic_ns()

    def wall_ns(self) -> int:
        return wall_ns()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(timeout_s)


class SteadyClock:
    """A clock whose wall time goes on as it began, however the machine's is set meanwhile: what
    waits for a time is not held up when that steps back, nor let go too soon when it steps on."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._anchor = anchor_of(self._clock)

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns()

    def wall_ns(self) -> int:
        return self._anchor.wall(self._clock.monotonic_ns())

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return self._clock.wait(event, timeout_s)


_SYSTEM = SystemClock()
