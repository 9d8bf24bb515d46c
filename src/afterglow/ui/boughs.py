"""Which lines a trace gets: alike spans taken together, and what takes longest first.

Nothing is printed here. A trace may have millions of spans and any depth, and looking at a
node's children reads the file: so lines are dealt out to the boughs that took longest until they
are used up, only what gets a line is looked into, and siblings are never all held at once. Wide
and deep trees alike are cut where they matter least, and each cut says how much it hides.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from afterglow.model.span import Span

if TYPE_CHECKING:
    from afterglow.model.tree import SpanNode

__all__ = ["SAMPLE", "Bough", "Rest", "fold", "plan"]

_RUN: Final = 3  # so many alike in a row become one line
_BOUGHS: Final = 12  # with more children than this, the alike are folded wherever they stand
_CHAIN: Final = 4  # so many levels of nothing but the same call inside itself become one line
_DEEPEST: Final = 100_000  # levels that one line may stand for: each costs a look into the file
#: Of alike siblings so many are looked into, to say what is below them.
SAMPLE: Final = 2_000
_ENOUGH: Final = 15  # lines after which boughs below this share of the trace are not worth one
_WORTH_A_LINE: Final = 0.002
_PORTION: Final = 1_000  # spans after which somebody who waits is told

Likeness = tuple[str, bool, bool, str]
Seen = Callable[[int], None]


def _likeness(span: Span) -> Likeness:
    return span.name, span.status == "error", span.interrupted, span.status_text


class Bough:
    """One span, or alike siblings taken together, in sums; `sample` has the first of them."""

    __slots__ = (
        "attributes", "children", "count", "is_partial", "levels", "rest", "sample", "self_ns",
        "total_ns",
    )  # fmt: skip

    def __init__(self, node: SpanNode) -> None:
        self.sample = [node]
        self.count = 1
        self.total_ns = node.span.duration_ns or 0
        self.self_ns = node.self_ns or 0
        #: What all of them have in common.
        self.attributes: dict[str, Any] = node.span.attributes
        #: More than 1: a call inside itself again and again, and these are all its levels.
        self.levels = 1
        #: Its numbers are of a sample of its parents: it is at least so many, and so long.
        self.is_partial = False
        #: Filled by `plan` for those that are shown.
        self.children: list[Bough] = []
        self.rest: Rest | None = None

    @property
    def span(self) -> Span:
        """The first of them, or the outermost."""
        return self.sample[0].span

    def take_in(self, node: SpanNode) -> None:
        """Add an alike sibling to these."""
        self.count += 1
        self.total_ns += node.span.duration_ns or 0
        self.self_ns += node.self_ns or 0
        if len(self.sample) < SAMPLE:
            self.sample.append(node)
        if self.attributes:
            self._keep_common(node.span.attributes)

    def join(self, other: Bough) -> None:
        """Add alike siblings that were taken together to these."""
        self.count += other.count
        self.total_ns += other.total_ns
        self.self_ns += other.self_ns
        self.sample.extend(other.sample[: SAMPLE - len(self.sample)])
        self._keep_common(other.attributes)

    def _keep_common(self, theirs: dict[str, Any]) -> None:
        mine = self.attributes
        if mine != theirs:
            self.attributes = {k: v for k, v in mine.items() if k in theirs and theirs[k] == v}

    def offshoots(self, seen: Seen) -> list[Bough]:
        """The children, folded, in the order in which they began; `seen` counts them."""
        if self.count > 1:
            # Of several parents only "what" is left of their children, not "in which order".
            below = _fold_all(
                child for node in self.sample for child in _counted(node.children, seen)
            )
            for bough in below:
                bough.is_partial = self.is_partial or self.count > len(self.sample)
            return below
        deepest = self._follow_chain()
        below = fold(_counted(deepest.children, seen))
        for bough in below:
            bough.is_partial = self.is_partial
        return below

    def _follow_chain(self) -> SpanNode:
        """Take in a recursion that does nothing but go deeper, as one line; its last level."""
        start = node = self.sample[0]
        like, levels, self_ns = _likeness(node.span), 1, self.self_ns
        while levels < _DEEPEST:
            below = list(islice(node.children, 2))
            if len(below) != 1 or _likeness(below[0].span) != like:
                break
            node = below[0]
            levels += 1
            self_ns += node.self_ns or 0
        if levels < _CHAIN:
            return start
        self.levels, self.self_ns = levels, self_ns
        return node


class Rest:
    """Children that are not shown."""

    __slots__ = ("count", "errors", "has_line", "is_partial", "total_ns")

    def __init__(self, hidden: Iterable[Bough], parent: Bough, whole_ns: int) -> None:
        self.count = self.errors = self.total_ns = 0
        self.is_partial = False
        for bough in hidden:
            self.is_partial |= bough.is_partial
            self.count += bough.count
            self.total_ns += bough.total_ns
            self.errors += bough.count if bough.span.status == "error" else 0
        #: A line of its own, below its siblings that are shown; else it is noted at the parent.
        self.has_line = bool(parent.children) and (
            self.errors > 0 or self.total_ns >= whole_ns * _WORTH_A_LINE
        )


def fold(children: Iterable[SpanNode]) -> list[Bough]:
    """Siblings, by start, as boughs: runs of alike ones as one; of very many, all alike as one."""
    boughs: list[Bough] = []
    run: Bough | None = None
    rest = iter(children)
    for node in rest:
        if run is not None and _likeness(run.span) == _likeness(node.span):
            run.take_in(node)
            continue
        if run is not None:
            boughs.extend(_settled(run))
        run = Bough(node)
        if len(boughs) > _BOUGHS:
            return _fold_all(rest, [*boughs, run])
    if run is not None:
        boughs.extend(_settled(run))
    return boughs if len(boughs) <= _BOUGHS else _fold_all((), boughs)


def _counted(nodes: Iterable[SpanNode], seen: Seen) -> Iterator[SpanNode]:
    at = 0
    for at, node in enumerate(nodes, 1):
        yield node
        if not at % _PORTION:
            seen(_PORTION)
    seen(at % _PORTION)


def _settled(run: Bough) -> list[Bough]:
    """A run as one line, if it is long enough."""
    return [run] if run.count >= _RUN else [Bough(node) for node in run.sample]


def _fold_all(children: Iterable[SpanNode], begun: Iterable[Bough] = ()) -> list[Bough]:
    """All alike siblings as one, wherever they stand, after those that were folded before."""
    groups: dict[Likeness, Bough] = {}
    for bough in begun:
        like = _likeness(bough.span)
        if like in groups:
            groups[like].join(bough)
        else:
            groups[like] = bough
    for node in children:
        like = _likeness(node.span)
        if like in groups:
            groups[like].take_in(node)
        else:
            groups[like] = Bough(node)
    return list(groups.values())


def _unseen(spans: int) -> None:
    """Nobody counts."""


def plan(root: SpanNode, *, lines: int, depth: int, seen: Seen = _unseen) -> Bough:
    """The root as a bough with the children to show: about `lines` in all, `depth` levels.

    `seen` is called with how many more spans were looked at.
    """
    top = Bough(root)
    # Interrupted spans come first: nobody knows how long they took, and they are what was
    # going on when the program died. The counter keeps the heap from comparing boughs.
    waiting: list[tuple[bool, int, int, int, Bough]] = [(False, 0, 0, 0, top)]
    pushed = shown = 0
    below: list[tuple[Bough, list[Bough]]] = []
    chosen: set[int] = set()
    while waiting and shown < lines:
        _, _, _, level, bough = heapq.heappop(waiting)
        small = not bough.span.interrupted and bough.total_ns < top.total_ns * _WORTH_A_LINE
        if small and shown >= _ENOUGH and pushed >= lines:
            break
        shown += 1
        chosen.add(id(bough))
        offshoots = bough.offshoots(seen)
        below.append((bough, offshoots))
        if level < depth:
            for child in offshoots:
                pushed += 1
                rank = (not child.span.interrupted, -child.total_ns, pushed)
                heapq.heappush(waiting, (*rank, level + 1, child))
    for bough, offshoots in below:
        bough.children = [child for child in offshoots if id(child) in chosen]
        if hidden := [child for child in offshoots if id(child) not in chosen]:
            bough.rest = Rest(hidden, bough, top.total_ns)
    return top
