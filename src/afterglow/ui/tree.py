"""Traces as trees of lines: what takes longest is shown first, the rest is said in numbers.

`plan` prints nothing. A trace may have millions of spans and any depth, and looking at a node's
children reads the file: so lines are dealt out to the boughs that took longest until they are
used up, only what gets a line is looked into, and siblings are never all held at once. Wide
and deep trees alike are cut where they matter least, and each cut says how much it hides.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from afterglow.model.span import Span, trace_id_hex
from afterglow.ui import screen as styles
from afterglow.ui.screen import Screen, heat
from afterglow.ui.text import attribute_texts, cell_len, clip, printable, shorten
from afterglow.ui.units import bar, clock_time, count, duration, plural

if TYPE_CHECKING:
    from afterglow.model.tree import SpanNode

__all__ = ["Bough", "Rest", "fold", "plan", "print_trace"]

_RUN: Final = 3  # so many alike in a row become one line
_BOUGHS: Final = 12  # with more children than this, the alike are folded wherever they stand
_CHAIN: Final = 4  # so many levels of nothing but the same call inside itself become one line
_DEEPEST: Final = 100_000  # levels that one line may stand for: each costs a look into the file
_SAMPLE: Final = 1_000  # of alike siblings so many are looked into, to say what is below them
_ENOUGH: Final = 15  # lines after which boughs below this share of the trace are not worth one
_WORTH_A_LINE: Final = 0.002
_BAR: Final = 5
_BEFORE_NAMES: Final = 8 + 2 + 8 + 2 + _BAR + 2
_NAME_ROOM: Final = 26  # a tree goes no deeper than leaves names so many columns

Likeness = tuple[str, bool, bool, str]


def _likeness(span: Span) -> Likeness:
    return span.name, span.status == "error", span.interrupted, span.status_text


class Bough:
    """One span, or alike siblings taken together, in sums; `sample` has the first of them."""

    __slots__ = (
        "attributes", "children", "count", "is_partial", "levels", "sample", "self_ns", "total_ns"
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
        #: It is made from a sample of its parents.
        self.is_partial = False
        #: Filled by `plan` for those that are shown: boughs, and perhaps a rest at the end.
        self.children: list[Bough | Rest] = []

    @property
    def span(self) -> Span:
        """The first of them, or the outermost."""
        return self.sample[0].span

    def take_in(self, other: Bough) -> None:
        """Add alike siblings to these."""
        self.count += other.count
        self.total_ns += other.total_ns
        self.self_ns += other.self_ns
        self.sample.extend(other.sample[: _SAMPLE - len(self.sample)])
        if self.attributes:
            theirs = other.attributes
            self.attributes = {
                k: v for k, v in self.attributes.items() if k in theirs and theirs[k] == v
            }

    def offshoots(self) -> list[Bough]:
        """The children, folded, in the order in which they began."""
        if self.count > 1:
            # Of several parents only "what" is left of their children, not "in which order".
            below = _fold_all(child for node in self.sample for child in node.children)
            for bough in below:
                bough.is_partial = self.is_partial or self.count > len(self.sample)
            return below
        deepest = self._follow_chain()
        below = fold(deepest.children)
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
    """Siblings that are not shown."""

    __slots__ = ("count", "errors", "is_partial", "total_ns")

    def __init__(self, hidden: Iterable[Bough]) -> None:
        self.count = self.errors = self.total_ns = 0
        self.is_partial = False
        for bough in hidden:
            self.count += bough.count
            self.total_ns += bough.total_ns
            self.errors += bough.count if bough.span.status == "error" else 0
            self.is_partial |= bough.is_partial


def fold(children: Iterable[SpanNode]) -> list[Bough]:
    """Siblings, by start, as boughs: runs of alike ones as one; of very many, all alike as one."""
    boughs: list[Bough] = []
    run: Bough | None = None
    rest = iter(children)
    for node in rest:
        if run is not None and _likeness(run.span) == _likeness(node.span):
            run.take_in(Bough(node))
            continue
        if run is not None:
            boughs.extend(_settled(run))
        run = Bough(node)
        if len(boughs) > _BOUGHS:
            return _fold_all(rest, [*boughs, run])
    if run is not None:
        boughs.extend(_settled(run))
    return boughs if len(boughs) <= _BOUGHS else _fold_all((), boughs)


def _settled(run: Bough) -> list[Bough]:
    """A run as one line, if it is long enough."""
    return [run] if run.count >= _RUN else [Bough(node) for node in run.sample]


def _fold_all(children: Iterable[SpanNode], begun: Iterable[Bough] = ()) -> list[Bough]:
    """All alike siblings as one, wherever they stand, after those that were folded before."""
    groups: dict[Likeness, Bough] = {}
    for bough in begun:
        _join(groups, bough)
    for node in children:
        _join(groups, Bough(node))
    return list(groups.values())


def _join(groups: dict[Likeness, Bough], bough: Bough) -> None:
    like = _likeness(bough.span)
    if like in groups:
        groups[like].take_in(bough)
    else:
        groups[like] = bough


def plan(root: SpanNode, *, lines: int, depth: int) -> Bough:
    """The root as a bough with the children to show: about `lines` in all, `depth` levels."""
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
        offshoots = bough.offshoots()
        below.append((bough, offshoots))
        if level < depth:
            for child in offshoots:
                pushed += 1
                rank = (not child.span.interrupted, -child.total_ns, pushed)
                heapq.heappush(waiting, (*rank, level + 1, child))
    for bough, offshoots in below:
        bough.children = [child for child in offshoots if id(child) in chosen]
        if hidden := [child for child in offshoots if id(child) not in chosen]:
            bough.children.append(Rest(hidden))
    return top


def print_trace(screen: Screen, root: SpanNode, *, lines: int, depth: int) -> None:
    """Print one trace: a line about it, then its tree with total and self time before names."""
    span = root.span
    failed = span.status == "error"
    facts = [
        (f"trace {trace_id_hex(span.trace_id)}", styles.QUIET),
        (_length(span.duration_ns), "bold"),
        ("failed" if failed else "", styles.BAD),
        (f"began {clock_time(span.start_ns)}", styles.QUIET),
        (f"pid {span.pid}" if span.pid else "", styles.QUIET),
    ]
    screen.prose(screen.joined(facts))
    screen.line((f"{'total':>8}  {'self':>8}", styles.QUIET))
    if screen.width is not None:
        depth = min(depth, max((screen.width - _BEFORE_NAMES - _NAME_ROOM) // 2, 2))
    top = plan(root, lines=lines, depth=depth)
    whole_ns = top.total_ns or _reach_ns(top)
    for prefix, item, parent in _rows(top, screen):
        if isinstance(item, Rest):
            screen.line(_rest_line(item, prefix, screen))
        else:
            screen.line(_bough_line(item, prefix, parent, whole_ns, screen))


def _reach_ns(top: Bough) -> int:
    """How long a span without an end went on at least, as its children show."""
    ends = [c.span.end_ns or c.span.start_ns for c in top.children if isinstance(c, Bough)]
    return max(ends, default=top.span.start_ns) - top.span.start_ns


def _rows(top: Bough, screen: Screen) -> Iterator[tuple[str, Bough | Rest, Bough | None]]:
    """Each line's branches drawn before it, what it is, and its parent; no recursion."""
    glyphs = screen.glyphs
    stack: list[tuple[str, str, Bough | Rest, Bough | None]] = [("", "", top, None)]
    while stack:
        prefix, below, item, parent = stack.pop()
        yield prefix, item, parent
        if isinstance(item, Bough):
            last = len(item.children) - 1
            for i in range(last, -1, -1):
                tee, rail = (glyphs.elbow, "  ") if i == last else (glyphs.tee, glyphs.pipe)
                stack.append((below + tee, below + rail, item.children[i], item))


def _length(ns: int | None) -> str:
    return "no end" if ns is None else duration(ns)


def _bough_line(
    bough: Bough, prefix: str, parent: Bough | None, whole_ns: int, screen: Screen
) -> Text:
    share = bough.total_ns / whole_ns if whole_ns else 0.0
    self_share = bough.self_ns / whole_ns if whole_ns else 0.0
    endless = bough.span.interrupted
    line = Text()
    total = "no end" if endless else duration(bough.total_ns)
    calm = "" if share >= 0.005 else styles.QUIET
    line.append(f"{total:>8}", styles.WARNING if endless else calm)
    own = "-" if endless else duration(bough.self_ns)
    line.append(f"  {own:>8}  ", heat(self_share))
    line.append(bar(self_share, _BAR, ascii_only=screen.ascii_only), heat(self_share))
    line.append(f"  {prefix}", styles.QUIET)
    taken = cell_len(line.plain)
    room = 10_000 if screen.width is None else max(screen.width - taken, 12)
    line.append_text(_label(bough, parent, room, screen))
    return line


def _label(bough: Bough, parent: Bough | None, room: int, screen: Screen) -> Text:
    label = Text()
    style = styles.BAD if bough.span.status == "error" else ""
    if style:
        label.append(f"{screen.glyphs.error} ", style)
    times = f" x{count(bough.count)}" if bough.count > 1 else ""
    if bough.levels > 1:
        times = f" {count(bough.levels)} levels deep"
    name = printable(bough.span.name)
    label.append(shorten(name, max(room - len(times) - 2, 8), mark=screen.glyphs.cut), style)
    label.append(times, "bold")
    for text, note_style in _notes(bough, parent):
        left = room - cell_len(label.plain) - 2
        if left < 6:
            break
        label.append("  ")
        label.append(clip(text, left, mark=screen.glyphs.cut), note_style)
    return label


def _notes(bough: Bough, parent: Bough | None) -> Iterator[tuple[str, str]]:
    """What stands behind the name: how it ended, where it ran, with which attributes."""
    span = bough.span
    if span.interrupted:
        yield "interrupted", styles.WARNING
    if span.status_text:
        yield printable(span.status_text), styles.WARNING
    if span.status == "error" and bough.count == 1 and span.status_description:
        yield printable(span.status_description), styles.BAD
    if bough.is_partial and (parent is None or not parent.is_partial):
        yield f"(in {count(_SAMPLE)} of them)", styles.QUIET
    if parent is not None and bough.count == parent.count == 1:
        above = parent.span
        if span.pid != above.pid:
            yield f"pid {span.pid}", styles.QUIET
        elif span.thread_id != above.thread_id:
            yield f"on {printable(span.thread_name)}", styles.QUIET
        elif span.task_name and span.task_name != above.task_name:
            yield f"in {printable(span.task_name)}", styles.QUIET
    if bough.levels == 1:
        for text in attribute_texts(bough.attributes):
            yield text, styles.QUIET


def _rest_line(rest: Rest, prefix: str, screen: Screen) -> Text:
    line = Text()
    line.append(f"{duration(rest.total_ns):>8}".ljust(_BEFORE_NAMES), styles.QUIET)
    line.append(prefix, styles.QUIET)
    more = f"{screen.glyphs.cut} {count(rest.count)} more, with all below"
    line.append(more, f"italic {styles.QUIET}")
    if rest.errors:
        line.append(f", {plural(rest.errors, 'error')} among them", styles.BAD)
    return line
