"""Who this process is: the seed of its trace ids and the counter of its span ids.

One for the whole process, not one for each tracer, so that spans of two tracers nest. A span
id is a count upwards from a random start: 64 random bits would cost four times as much, and a
start below 2**62 leaves room for 2**62 spans. A forked child draws a new start but keeps the
seed: spans that were open at the fork are still the parents of what it does, in their traces.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

__all__ = ["Identity", "identity"]


def _random_bits(bits: int) -> int:
    return (int.from_bytes(os.urandom(8), "big") >> (64 - bits)) or 1


class Identity:
    """The process's seed and ids."""

    __slots__ = ("first_id", "next_id", "seed")

    seed: int  # 64 random bits, the high half of every trace id that begins here
    first_id: int
    next_id: Callable[[], int]

    def __init__(self) -> None:
        self.seed = _random_bits(64)
        self.draw_start()

    def draw_start(self) -> None:
        """Count span ids from a new random start."""
        self.first_id = _random_bits(62)
        self.next_id = itertools.count(self.first_id).__next__


identity = Identity()
# Registered before any tracer registers its own, and hooks in the child run in that order.
os.register_at_fork(after_in_child=identity.draw_start)
