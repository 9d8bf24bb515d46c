"""What a service counts while it runs: numbers by name and labels, from any thread.

The names are those of `ledger.COLLECT_COUNTERS`, a closed list. Books that must hold over a
restart are kept elsewhere (the buffer's, the store's, the sinks'): these begin at 0.
"""

from __future__ import annotations

import threading
from collections import Counter

from afterglow.ledger import CollectCounter

__all__ = ["Counted", "Counts", "Labels"]

#: Pairs of a label's name and its value, sorted by name.
Labels = tuple[tuple[str, str], ...]

#: Counts at one moment, by name and labels.
Counted = dict[tuple[CollectCounter, Labels], int]


class Counts:
    """Counters that only go up. Labels must be of small closed sets: never ids, never texts of
    senders but for the project, which is one of those that were configured."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[CollectCounter, Labels]] = Counter()

    def add(self, name: CollectCounter, count: int = 1, **labels: str) -> None:
        """Count so many more."""
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            self._counts[key] += count

    def read(self) -> Counted:
        """All of them, as they are at one moment."""
        with self._lock:
            return dict(self._counts)

    def total(self, name: CollectCounter) -> int:
        """One of them, over all labels."""
        return sum(count for (of, _), count in self.read().items() if of == name)
