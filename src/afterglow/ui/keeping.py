"""How retention stands, as tables: what is kept and why, what goes next, what was forgotten."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.text import Text

from afterglow.clock import SystemClock
from afterglow.config import RetentionConfig
from afterglow.keep.retention import Pass
from afterglow.keep.standing import KeptKind, KeptTrace, Standing, standing
from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import printable, shorten
from afterglow.ui.units import clock_time, count, duration, percent, plural, size

if TYPE_CHECKING:
    from afterglow.keep.keeper import Keeper

__all__ = ["say_beginning", "say_pass", "show", "stand"]

_STYLES: Final = {"pinned": "bold", "error": styles.BAD, "slow": styles.WARM, "open": styles.GOOD}
_LEAST_NAME: Final = 12


def stand(retention: Keeper, *, limit: int) -> Standing:
    """How things stand now."""
    return standing(retention, SystemClock().wall_ns(), limit=limit)


def show(result: Pass, found: Standing, *, dry_run: bool, as_json: bool) -> None:
    """Print what a pass did and how things stand after it."""
    if as_json:
        from afterglow.ui.documents import write_document

        document = {"pass": _pass_document(result), "dry_run": dry_run}
        write_document(sys.stdout, document | msgspec.to_builtins(found))
        return
    screen = Screen()
    now_ns = SystemClock().wall_ns()
    _print_pass(screen, result, _due(found) if dry_run else "")
    if not found.traces:
        screen.prose("no trace is there")
        _print_forgotten(screen, found)
        return
    _print_room(screen, found, result)
    screen.line()
    _print_kinds(screen, found.kinds)
    _print_traces(screen, "stays longest", found.strongest, now_ns)
    _print_traces(screen, "goes next", found.next_to_go, now_ns)
    screen.line()
    _print_forgotten(screen, found)


def say_beginning(place: str, config: RetentionConfig) -> None:
    """The first line of `--follow`: without it, an idle file would look like a hang."""
    every = duration(config.keep_interval_s * 1e9)
    most = f"{size(config.keep_max_bytes)}, {plural(config.keep_max_traces, 'trace')}"
    sys.stdout.write(f"following {place}: a pass every {every}, at most {most}; Ctrl-C ends it\n")
    sys.stdout.flush()


def say_pass(result: Pass, config: RetentionConfig, *, as_json: bool) -> None:
    """One line about a pass of `--follow`; with `as_json` one document a line."""
    if as_json:
        line = msgspec.json.encode(_pass_document(result)).decode()
    else:
        facts = [_folded(result), _went(result)]
        room = f"{size(result.room.used_bytes)} of {size(config.keep_max_bytes)}"
        now = clock_time(SystemClock().wall_ns()).partition(".")[0]
        line = f"{now}  {', '.join(fact for fact in [*facts, room] if fact)}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _pass_document(result: Pass) -> dict[str, Any]:
    return {
        "folded_spans": result.folded.spans,
        "new_or_changed_traces": result.entered,
        "forgotten_traces": result.forgotten.traces,
        "forgotten_spans": result.forgotten.spans,
        "compacted": bool(result.compacted),
        "file_bytes": result.room.file_bytes,
        "used_bytes": result.room.used_bytes,
        "over_bytes": result.over_bytes,
    }


def _folded(result: Pass) -> str:
    spans = result.folded.spans
    return f"{plural(spans, 'new span')} folded" if spans else ""


def _went(result: Pass) -> str:
    gone = result.forgotten
    if not gone.traces:
        return ""
    return f"{plural(gone.traces, 'trace')} forgotten ({plural(gone.spans, 'span')})"


def _due(found: Standing) -> str:
    """What a pass without --dry-run would do."""
    faded, quota = found.due["faded"], found.due["quota"]
    would = [
        f"{plural(faded, 'trace')} that faded" if faded else "",
        f"{plural(quota, 'trace')} beyond keep_max_traces" if quota else "",
        "some for the room they take" if found.full else "",
    ]
    listed = ", ".join(text for text in would if text) or "nothing"
    return f"nothing was forgotten (--dry-run); a pass now would forget {listed}"


def _print_pass(screen: Screen, result: Pass, due: str) -> None:
    facts = [(_folded(result), ""), (_went(result), "bold"), (due, styles.GOOD)]
    if any(text for text, _ in facts):
        screen.prose(screen.joined(facts))


def _print_room(screen: Screen, found: Standing, result: Pass) -> None:
    share = found.used_bytes / found.max_bytes
    screen.prose(
        screen.joined(
            [
                (plural(found.traces, "trace"), "bold"),
                (f"{size(found.used_bytes)} of {size(found.max_bytes)} ({percent(share)})", ""),
                (f"at most {plural(found.max_traces, 'trace')}", styles.QUIET),
            ]
        )
    )
    if result.over_bytes:
        text = (
            f"this is {size(result.over_bytes)} over its quota, for what is left is pinned or "
            "goes on: unpin something, or raise keep_max_bytes"
        )
        screen.prose((text, styles.WARNING))


# --- kinds --------------------------------------------------------------------------------

_RULES: Final = {
    "pinned": "by hand",
    "open": "has not ended",
    "error": "something failed",
    "slow": "slow for its name",
    "normal": "nothing strikes",
    "routine": "one of very many",
}


def _print_kinds(screen: Screen, kinds: Sequence[KeptKind]) -> None:
    rows = [
        [
            Text(kind.kind, _STYLES.get(kind.kind, "")),
            _number(kind.traces),
            _number(kind.spans),
            Text(size(kind.bytes) if kind.bytes else "-", "" if kind.bytes else styles.QUIET),
            Text(_length(kind.half_life_s)),
            Text(_length(kind.lifetime_s)),
            Text(_RULES[kind.kind], styles.QUIET),
        ]
        for kind in kinds
    ]
    columns = [
        Column("kind", right=False),
        Column("traces"),
        Column("spans"),
        Column("size"),
        Column("half life"),
        Column("gone after"),
        Column("why", right=False),
    ]
    screen.grid(columns, rows)


def _number(n: int) -> Text:
    return Text(count(n)) if n else Text("-", styles.QUIET)


def _length(seconds: float | None) -> str:
    return "never" if seconds is None else _rough(seconds)


def _rough(seconds: float) -> str:
    """Two digits are enough of a span of days."""
    if seconds < 90 * 60:
        return f"{max(seconds, 0) / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.0f} h"
    days = seconds / 86_400
    return f"{days:.1f} d" if days < 9.95 else f"{days:,.0f} d"


# --- traces -------------------------------------------------------------------------------


def _print_traces(screen: Screen, title: str, traces: Sequence[KeptTrace], now_ns: int) -> None:
    if not traces:
        return
    screen.line()
    fields: list[tuple[Column, Callable[[KeptTrace], Text]]] = [
        (Column(title, right=False), lambda t: Text(t.short_id, "bold")),
        (Column("kind", right=False), lambda t: Text(t.kind, _STYLES.get(t.kind, ""))),
        (Column("strength"), lambda t: Text(f"{t.strength:.2f}")),
        (Column("goes in"), lambda t: Text(_goes(t, now_ns))),
        (Column("took"), lambda t: Text(duration(t.duration_ns))),
        (Column("why", right=False), lambda t: Text(t.why, styles.QUIET)),
    ]
    rows = [[cell(trace) for _, cell in fields] for trace in traces]
    columns = [column for column, _ in fields]
    used = sum(
        2 + max([len(column.title), *(len(row[i].plain) for row in rows)])
        for i, column in enumerate(columns)
    )
    room = screen.name_width if screen.width is None else screen.width - used
    if room < _LEAST_NAME:  # the reason gives way to the name
        columns.pop()
        rows = [row[:-1] for row in rows]
        room = _LEAST_NAME * 2
    for trace, row in zip(traces, rows, strict=True):
        name = printable(trace.name)
        row.append(Text(shorten(name, max(room, _LEAST_NAME), mark=screen.glyphs.cut)))
    screen.grid([*columns, Column("name", right=False)], rows)


def _goes(trace: KeptTrace, now_ns: int) -> str:
    return "-" if trace.goes_ns is None else _rough((trace.goes_ns - now_ns) / 1e9)


def _print_forgotten(screen: Screen, found: Standing) -> None:
    listed = [f"{count(n)} {why}" for why, n in found.forgotten.items() if n]
    if not listed:
        screen.prose(("nothing was ever forgotten here", styles.QUIET))
        return
    whole = sum(found.forgotten.values())
    spans = plural(found.forgotten_spans, "span")
    text = f"forgotten so far: {plural(whole, 'trace')} ({', '.join(listed)}), {spans}"
    screen.prose((f"{text}; they go on counting in afterglow report", styles.QUIET))
