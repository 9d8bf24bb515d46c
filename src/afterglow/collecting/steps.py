"""Parts in the order in which they start; they stop in the mirror of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from afterglow.clock import Clock

__all__ = ["Steps", "TimeLeft"]

#: Seconds that are left for stopping; never negative.
TimeLeft = Callable[[], float]


class _Started(NamedTuple):
    name: str
    stop: Callable[[TimeLeft], None]


class Steps:
    """What has been started, so that it can be stopped. One thread at a time."""

    def __init__(self, clock: Clock, complain: Callable[[str], None]) -> None:
        self._clock = clock
        self._complain = complain
        self._started: list[_Started] = []

    def add(self, name: str, stop: Callable[[TimeLeft], None]) -> None:
        """Something runs now; `stop(left)` ends it."""
        self._started.append(_Started(name, stop))

    def stop(self, within_s: float) -> list[str]:
        """Stop all, the last first, whatever one of them raises; the names of those that did.

        Each is told how much of `within_s` is left when it asks.
        """
        until_ns = self._clock.monotonic_ns() + round(within_s * 1e9)

        def left_s() -> float:
            return max((until_ns - self._clock.monotonic_ns()) / 1e9, 0.0)

        failed = []
        while self._started:
            step = self._started.pop()
            try:
                step.stop(left_s)
            except Exception as error:  # noqa: BLE001  the others are stopped all the same
                failed.append(step.name)
                self._complain(f"stopping {step.name} failed: {type(error).__name__}: {error}")
        return failed
