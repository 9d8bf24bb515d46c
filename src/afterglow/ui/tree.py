"""Traces as trees of lines: total and self time, then the names with what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.text import Text

from afterglow.model.span import trace_id_hex
from afterglow.ui import screen as styles
from afterglow.ui.boughs import SAMPLE, Bough, Rest, plan
from afterglow.ui.progress import Progress
from afterglow.ui.screen import Screen, heat
from afterglow.ui.text import attribute_texts, cell_len, clip, printable, shorten
from afterglow.ui.units import bar, clock_time, count, duration, plural

if TYPE_CHECKING:
    from afterglow.model.tree import SpanNode

__all__ = ["print_trace"]

_BAR: Final = 5
_BEFORE_NAMES: Final = 8 + 2 + 8 + 2 + _BAR + 2
_NAME_ROOM: Final = 26  # a tree goes no deeper than leaves names so many columns
_NOTE: Final = 16  # columns of a note that are worth having, where it does not fit whole


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
    with Progress("reading") as progress:
        top = plan(root, lines=lines, depth=depth, seen=progress.add)
    whole_ns = top.total_ns or _reach_ns(top)
    is_partial = False
    for prefix, item, parent in _rows(top, screen):
        is_partial |= item.is_partial
        if isinstance(item, Rest):
            screen.line(_rest_line(item, prefix, screen))
        else:
            screen.line(_bough_line(item, prefix, parent, whole_ns, screen))
    if is_partial:
        text = f"+ at least: of alike spans the first {count(SAMPLE)} were looked into"
        screen.prose((text, styles.QUIET))


def _reach_ns(top: Bough) -> int:
    """How long a span without an end went on at least, as its children show."""
    ends = [child.span.end_ns or child.span.start_ns for child in top.children]
    return max(ends, default=top.span.start_ns) - top.span.start_ns


def _rows(top: Bough, screen: Screen) -> Iterator[tuple[str, Bough | Rest, Bough | None]]:
    """Each line's branches drawn before it, what it is, and its parent; no recursion."""
    glyphs = screen.glyphs
    stack: list[tuple[str, str, Bough | Rest, Bough | None]] = [("", "", top, None)]
    while stack:
        prefix, below, item, parent = stack.pop()
        yield prefix, item, parent
        if isinstance(item, Rest):
            continue
        lines: list[Bough | Rest] = [*item.children]
        if item.rest is not None and item.rest.has_line:
            lines.append(item.rest)
        for i, child in reversed(list(enumerate(lines, 1))):
            tee, rail = (glyphs.elbow, "  ") if i == len(lines) else (glyphs.tee, glyphs.pipe)
            stack.append((below + tee, below + rail, child, item))


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
    drawn = bar(self_share if self_share >= 0.01 else 0, _BAR, ascii_only=screen.ascii_only)
    line.append(drawn, heat(self_share))
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
    times = f" x{_at_least(bough)}" if bough.count > 1 or bough.is_partial else ""
    if bough.levels > 1:
        times = f" {count(bough.levels)} levels deep"
    if bough.rest is not None and not bough.rest.has_line:
        where = "more" if bough.children else "below"
        hidden = f"  {screen.glyphs.cut} {_at_least(bough.rest)} {where}"
    else:
        hidden = ""
    name = printable(bough.span.name)
    label.append(
        shorten(name, max(room - len(times + hidden) - 2, 8), mark=screen.glyphs.cut), style
    )
    label.append(times, "bold")
    label.append(hidden, f"italic {styles.QUIET}")
    for text, note_style in _notes(bough, parent):
        left = room - cell_len(label.plain) - 2
        if left < min(cell_len(text), _NOTE):
            break
        label.append("  ")
        label.append(clip(text, left, mark=screen.glyphs.cut), note_style)
    return label


def _at_least(item: Bough | Rest) -> str:
    return count(item.count) + ("+" if item.is_partial else "")


def _notes(bough: Bough, parent: Bough | None) -> Iterator[tuple[str, str]]:
    """What stands behind the name: how it ended, where it ran, attributes."""
    span = bough.span
    if bough.rest is not None and bough.rest.errors and not bough.rest.has_line:
        yield f"{plural(bough.rest.errors, 'error')} below", styles.BAD
    if span.interrupted:
        yield "interrupted", styles.WARNING
    if span.status_text:
        yield printable(span.status_text), styles.WARNING
    if span.status == "error" and bough.count == 1 and span.status_description:
        yield printable(span.status_description), styles.BAD
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
    more = f"{screen.glyphs.cut} {_at_least(rest)} more"
    line.append(more, f"italic {styles.QUIET}")
    if rest.errors:
        line.append(f", {plural(rest.errors, 'error')} among them", styles.BAD)
    return line
