"""A span with its children, however deep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afterglow.model.span import Span

__all__ = ["SpanNode"]


class SpanNode:
    """A span, its children by start time, and the time that no child accounts for.

    `self_ns` is the duration less the union of the children's intervals, clipped to the span;
    None while the span has no end. `children` is a sequence; in trees that come from a file it
    reads the file each time it is looked at, so that a trace larger than memory can be walked.
    """

    __slots__ = ("children", "self_ns", "span")

    def __init__(self, span: Span, children: Sequence[SpanNode], self_ns: int | None) -> None:
        self.span = span
        self.children = children
        self.self_ns = self_ns

    def walk(self) -> Iterator[tuple[int, SpanNode]]:
        """This node and all below, parents first, with their depth (0 here); no recursion."""
        yield 0, self
        ways = [iter(self.children)]
        while ways:
            node = next(ways[-1], None)
            if node is None:
                ways.pop()
                continue
            yield len(ways), node
            ways.append(iter(node.children))

    def __repr__(self) -> str:
        # Not the generated one: that would go down the whole tree, by recursion.
        return f"SpanNode({self.span.name!r}, children={len(self.children)})"
