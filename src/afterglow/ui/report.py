"""Statistics by name, as a table that fits; what was only counted; what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.text import Text

from afterglow.config import RunConfig
from afterglow.ledger import Ledger
from afterglow.model.run import Run
from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen, heat
from afterglow.ui.text import cell_len, printable, shorten
from afterglow.ui.units import bar, count, duration, percent, plural

if TYPE_CHECKING:
    from afterglow.model.statistics import NameStatistics

__all__ = [
    "print_counted",
    "print_lost",
    "print_statistics",
    "rule_text",
]

_BAR: Final = 8


class _Field(NamedTuple):
    """A column of the table."""

    key: str
    title: str
    cell: Callable[[NameStatistics], Text]


def _time(key: str, of: Callable[[NameStatistics], float]) -> _Field:
    # Where no call came to its end there is no time to speak of.
    return _Field(key, key, lambda s: Text(duration(of(s) if s.count else None)))


def _marked(n: int, text: str, style: str) -> Text:
    return Text(text, style) if n else Text("-", styles.QUIET)


_FIELDS: Final = (
    _Field("count", "calls", lambda s: Text(count(s.count))),
    _Field("errors", "errors", lambda s: _marked(s.errors, percent(s.error_rate), styles.BAD)),
    _Field("interrupted", "no end",
           lambda s: _marked(s.interrupted, count(s.interrupted), styles.WARNING)),
    _time("total", lambda s: s.total_ns),
    _Field("self", "self", lambda s: Text(duration(s.self_ns if s.count else None))),
    _Field("share", "of self time", lambda s: Text()),  # drawn in `_share`: it needs the whole
    _time("mean", lambda s: s.mean_ns),
    _time("p50", lambda s: s.p50_ns),
    _time("p95", lambda s: s.p95_ns),
    _time("p99", lambda s: s.p99_ns),
    _time("min", lambda s: s.min_ns),
    _time("max", lambda s: s.max_ns),
)  # fmt: skip

# Which columns come first when not all have room.
_IMPORTANCE: Final = ("self", "share", "count", "errors", "mean", "interrupted", "p99", "total",
                      "p50", "p95", "max", "min")  # fmt: skip


def print_statistics(
    screen: Screen,
    statistics: Sequence[NameStatistics],
    *,
    whole_self_ns: int,
    sort: str,
    left_out: int,
    left_out_self_ns: int,
) -> None:
    """The table. `whole_self_ns` is the self time of all names: what shares are shares of."""
    shares = [(s.self_ns or 0) / whole_self_ns if whole_self_ns else 0.0 for s in statistics]
    names = [printable(s.name) for s in statistics]
    longest = max(map(cell_len, names), default=0)
    columns = {
        field.key: [
            _cell(field, s, share, screen) for s, share in zip(statistics, shares, strict=True)
        ]
        for field in _FIELDS
        if _has_any(field, statistics)
    }
    fields, room = _chosen(columns, longest, sort, screen)
    name_width = max(min(longest, room), 4)
    name_cells = [
        Text(shorten(name, name_width, mark=screen.glyphs.cut), _calm(share))
        for name, share in zip(names, shares, strict=True)
    ]
    rows = list(zip(name_cells, *(columns[field.key] for field in fields), strict=True))
    # A bar fills its column from the left, so its title stands there, too.
    heads = [Column(f.title, right=f.key != "share") for f in fields]
    screen.grid([Column("name", right=False, least=name_width), *heads], rows)
    if left_out:
        share = percent(left_out_self_ns / whole_self_ns) if whole_self_ns else "0%"
        more = f"{plural(left_out, 'more name')}, {share} of self time"
        screen.line((f"{screen.glyphs.cut} {more} (--limit 0 shows all)", styles.QUIET))


def _has_any(field: _Field, statistics: Sequence[NameStatistics]) -> bool:
    """Columns that would be all dashes are left away."""
    if field.key in ("errors", "interrupted"):
        return any(getattr(s, field.key) for s in statistics)
    return True


def _chosen(
    columns: Mapping[str, Sequence[Text]], longest: int, sort: str, screen: Screen
) -> tuple[list[_Field], int]:
    """The columns that have room, as `_FIELDS` orders them, and the room left for names."""
    if screen.width is None:
        return [field for field in _FIELDS if field.key in columns], screen.name_width
    titles = {field.key: field.title for field in _FIELDS}
    left = screen.width
    # A wider terminal gives a quarter of what it adds to names.
    least = min(longest, 26 + max(screen.width - 80, 0) // 4)
    chosen = set()
    for key in dict.fromkeys((sort, *_IMPORTANCE)):
        if key not in columns:
            continue
        width = 2 + max(len(titles[key]), *(cell_len(cell.plain) for cell in columns[key]))
        if left - width < least:
            break
        left -= width
        chosen.add(key)
    return [field for field in _FIELDS if field.key in chosen], left


def _cell(field: _Field, s: NameStatistics, share: float, screen: Screen) -> Text:
    """Only self time and its share are coloured: the rest is plain, or quiet where it is small."""
    if field.key == "share":
        drawn = bar(share, _BAR, ascii_only=screen.ascii_only)
        return Text(f"{drawn} {percent(share):>5}", heat(share))
    cell = field.cell(s)
    if not cell.style:
        cell.style = heat(share) if field.key == "self" else _calm(share)
    return cell


def _calm(share: float) -> str:
    return styles.QUIET if share < 0.005 else ""


def print_counted(screen: Screen, counts: Mapping[str, int], rule: str, *, limit: int) -> None:
    """The functions that became counts, most calls first, and the rule that made them so."""
    if not counts:
        return
    screen.line()
    screen.line((f"only counted, in {plural(len(counts), 'function')}", "bold"))
    screen.prose((rule, styles.QUIET))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:limit] if limit else ordered
    width = screen.name_width - 16
    rows = [
        [Text(shorten(printable(name), width, mark=screen.glyphs.cut)), Text(count(calls))]
        for name, calls in shown
    ]
    screen.grid([Column("name", right=False), Column("calls", least=11)], rows)
    if len(ordered) > len(shown):
        more = sum(calls for _, calls in ordered[len(shown) :])
        text = f"{plural(len(ordered) - len(shown), 'more function')}, {plural(more, 'call')}"
        screen.line((f"{screen.glyphs.cut} {text} (--limit 0 shows all)", styles.QUIET))


def print_lost(screen: Screen, books: Ledger) -> None:
    """A line for what these numbers are without: drops by reason, and what was not recorded."""
    for kind, title, style in (
        ("dropped", "lost", styles.WARNING),
        ("not_recorded", "not recorded", styles.QUIET),
    ):
        reasons: Mapping[str, int] = books[kind]  # type: ignore[literal-required]
        if any(reasons.values()):
            listed = ", ".join(f"{reason} {count(n)}" for reason, n in reasons.items() if n)
            screen.line()
            spans = plural(sum(reasons.values()), "span")
            screen.prose((f"{title}: {spans} ({listed}); see afterglow audit", style))


def rule_text(run: Run) -> str:
    """Why functions were only counted: the run's own numbers if it says them, or the defaults."""
    defaults = RunConfig()
    calls = run.resource.get("afterglow.collapse_calls", str(defaults.collapse_calls))
    below = run.resource.get("afterglow.collapse_below_us", f"{defaults.collapse_below_us:g}")
    shown = f"{int(calls):,}" if calls.isdecimal() else printable(calls)
    return (
        f"called over {shown} times, at less than {printable(below)} us a call or in too quick "
        "a succession to time; so many calls were counted instead of recorded "
        "(afterglow run --no-collapse records them all)"
    )
