"""What the spans of one name came to."""

from __future__ import annotations

import msgspec

__all__ = ["NameStatistics"]


class NameStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The finished spans of one name; times in ns.

    `count`, `total_ns`, `self_ns`, `min_ns`, `max_ns` and `errors` are exact; the percentiles
    (nearest rank) are at most 1 % off. `interrupted` counts spans that never ended: they are
    in none of the other figures. A name of which no span has ended has zeros.
    """

    name: str
    count: int
    total_ns: int
    #: Time that no child accounts for; 0 where it was not worked out (`self_known` is False).
    self_ns: int
    p50_ns: int
    p95_ns: int
    p99_ns: int
    min_ns: int
    max_ns: int
    errors: int
    interrupted: int = 0
    #: Statistics straight from journals know no self times.
    self_known: bool = True

    @property
    def mean_ns(self) -> float:
        """Total over count; 0 where none has ended."""
        return self.total_ns / self.count if self.count else 0.0

    @property
    def error_rate(self) -> float:
        """The share of finished spans with status error, 0 to 1."""
        return self.errors / self.count if self.count else 0.0
