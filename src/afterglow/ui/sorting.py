"""The orders that a report can be in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from afterglow.model.statistics import NameStatistics

__all__ = ["SORTS", "sorted_by"]

#: What `--sort` takes, and the number it goes by; the largest comes first.
SORTS: Final[Mapping[str, Callable[[NameStatistics], float]]] = {
    "self": lambda s: s.self_ns or 0,
    "total": lambda s: s.total_ns,
    "count": lambda s: s.count,
    "mean": lambda s: s.mean_ns,
    "p99": lambda s: s.p99_ns,
}


def sorted_by(statistics: Sequence[NameStatistics], sort: str) -> list[NameStatistics]:
    """Most of `sort` (a key of SORTS) first, then by name."""
    key = SORTS[sort]
    return sorted(statistics, key=lambda s: (-key(s), s.name))
