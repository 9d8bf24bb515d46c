"""Trees from spans in any order, of any depth, without recursion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from afterglow.analyse.cover import covered_ns
from afterglow.model.span import Span
from afterglow.model.tree import SpanNode

__all__ = ["build_trees"]


def build_trees(spans: Iterable[Span]) -> list[SpanNode]:
    """One tree for each span without a parent among `spans`, slowest first.

    All of them are held in memory. Spans that never ended are included; those at the root come
    as if they had ended when the last of all spans did. Parents that point in a circle are cut
    at the span that began first.
    """
    rows = list(spans)
    children = _by_parent(rows)
    order, roots = _parents_first(rows, children)
    nodes: dict[int, SpanNode] = {}
    for row in reversed(order):
        below = [nodes.pop(child) for child in children[row] if child in nodes]
        nodes[row] = SpanNode(rows[row], tuple(below), _self_ns(rows[row], below))
    last_ns = max((s.end_ns or s.start_ns for s in rows), default=0)

    def slowness(row: int) -> int:
        span = rows[row]
        return (last_ns if span.end_ns is None else span.end_ns) - span.start_ns

    return [nodes[row] for row in sorted(roots, key=slowness, reverse=True)]


def _by_parent(rows: Sequence[Span]) -> list[list[int]]:
    """For each row the rows of its children, by start."""
    position: dict[tuple[int, int], int] = {}
    for row, span in enumerate(rows):
        position.setdefault((span.trace_id, span.span_id), row)
    children: list[list[int]] = [[] for _ in rows]
    for row in sorted(range(len(rows)), key=lambda row: rows[row].start_ns):
        span = rows[row]
        parent = position.get((span.trace_id, span.parent_span_id))
        if span.parent_span_id and parent is not None and parent != row:
            children[parent].append(row)
    return children


def _parents_first(
    rows: Sequence[Span], children: Sequence[Sequence[int]]
) -> tuple[list[int], list[int]]:
    """All rows in an order in which parents come before children, and the roots among them."""
    below = {child for group in children for child in group}
    roots = [row for row in range(len(rows)) if row not in below]
    order: list[int] = []
    seen = bytearray(len(rows))

    def go_down(row: int) -> None:
        waiting = [row]
        while waiting:
            row = waiting.pop()
            if not seen[row]:
                seen[row] = True
                order.append(row)
                waiting.extend(children[row])

    for root in roots:
        go_down(root)
    if len(order) < len(rows):  # the rest are circles and what hangs from them
        for row in sorted(range(len(rows)), key=lambda row: rows[row].start_ns):
            if not seen[row]:
                roots.append(row)
                go_down(row)
    return order, roots


def _self_ns(span: Span, below: Sequence[SpanNode]) -> int | None:
    if span.end_ns is None:
        return None
    intervals = [(n.span.start_ns, n.span.end_ns) for n in below if n.span.end_ns is not None]
    return span.end_ns - span.start_ns - covered_ns(intervals, span.start_ns, span.end_ns)
