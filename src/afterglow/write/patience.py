"""Waiting for as long as something moves."""

from __future__ import annotations

from collections.abc import Callable

from afterglow.clock import Clock

__all__ = ["Patience"]


class Patience:
    """Ends when a counter has stood still for `limit_ns`; the time while it grows is free."""

    def __init__(self, clock: Clock, progress: Callable[[], int], limit_ns: int) -> None:
        self._clock = clock
        self._progress = progress
        self._limit_ns = limit_ns
        self._seen = progress()
        self._since_ns = clock.monotonic_ns()

    def over(self) -> bool:
        """Look: has nothing moved for too long?"""
        now = self._clock.monotonic_ns()
        if (seen := self._progress()) != self._seen:
            self._seen, self._since_ns = seen, now
            return False  # whatever the limit, be it 0
        return now - self._since_ns >= self._limit_ns
