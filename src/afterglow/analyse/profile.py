"""Statistics and trees in the shape that users of ferret-io know. Pure, over iterators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from afterglow.model.profile import ProfileSpan

__all__ = ["AggregatedStats", "TraceNode", "aggregated", "trees"]


@dataclass
class AggregatedStats:
    """What the finished spans of one name came to; durations in seconds.

    `error_count` counts every status other than "ok", "warning" too.
    """

    name: str
    count: int
    total_duration: float
    avg_duration: float
    min_duration: float
    max_duration: float
    error_count: int
    error_rate: float


@dataclass(repr=False)
class TraceNode:
    """A span and what happened inside it; durations in seconds."""

    span: ProfileSpan
    children: list[TraceNode] = field(default_factory=list)

    @property
    def total_children_duration(self) -> float:
        """The sum of the children's durations: more than the span's own where they overlap."""
        return sum(child.span.duration or 0.0 for child in self.children)

    @property
    def self_time(self) -> float:
        """The duration less the children's, and never below 0."""
        return max(0.0, (self.span.duration or 0.0) - self.total_children_duration)

    def __repr__(self) -> str:
        # Not the children's: a recursion of a thousand calls is a tree that deep.
        return f"TraceNode({self.span.name!r}, children={len(self.children)})"


def aggregated(spans: Iterable[ProfileSpan]) -> dict[str, AggregatedStats]:
    """The finished spans by name, the earliest start first; memory grows with the names."""
    found: dict[str, AggregatedStats] = {}
    begun: dict[str, float] = {}
    for span in spans:
        duration = span.duration
        if duration is None:
            continue
        stats = found.get(span.name)
        if stats is None:
            stats = AggregatedStats(span.name, 0, 0.0, 0.0, duration, duration, 0, 0.0)
            found[span.name] = stats
        stats.count += 1
        stats.total_duration += duration
        stats.min_duration = min(stats.min_duration, duration)
        stats.max_duration = max(stats.max_duration, duration)
        stats.error_count += span.status != "ok"
        begun[span.name] = min(begun.get(span.name, span.start_time), span.start_time)
    for stats in found.values():
        stats.avg_duration = stats.total_duration / stats.count
        stats.error_rate = stats.error_count / stats.count
    return {name: found[name] for name in sorted(found, key=begun.__getitem__)}


def trees(spans: Iterable[ProfileSpan]) -> list[TraceNode]:
    """The finished spans of one run as trees, everything in order of start.

    A span whose parent is not among them is a root, and so is the first in a circle of parents
    (no recorder makes one; a file may hold anything).
    """
    ordered = sorted(
        (span for span in spans if span.duration is not None), key=lambda span: span.start_time
    )
    nodes = [TraceNode(span) for span in ordered]
    by_id = {node.span.span_id: node for node in nodes}
    roots: list[TraceNode] = []
    for node in nodes:
        parent = by_id.get(node.span.parent_id or "")
        (roots if parent is None else parent.children).append(node)
    reached = {id(node) for root in roots for node in _below(root, set())}
    if len(reached) < len(nodes):
        for node in nodes:
            if id(node) not in reached:
                siblings = by_id[node.span.parent_id or ""].children
                siblings[:] = [child for child in siblings if child is not node]
                roots.append(node)
                reached.update(id(inner) for inner in _below(node, reached))
        roots.sort(key=lambda root: root.span.start_time)
    return roots


def _below(root: TraceNode, reached: set[int]) -> Iterator[TraceNode]:
    """The node and all below it that are not in `reached`; trees may be deeper than the stack."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(child for child in node.children if id(child) not in reached)
