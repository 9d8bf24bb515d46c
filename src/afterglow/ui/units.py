"""Numbers as people read them: three digits that count, and a unit."""

from __future__ import annotations

from datetime import datetime
from typing import Final

__all__ = [
    "bar",
    "clock_time",
    "count",
    "duration",
    "moment",
    "percent",
    "plural",
    "short_moment",
    "size",
]

_UNITS: Final = (("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))
_MINUTE_NS: Final = 60 * 1_000_000_000
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def duration(ns: float | None) -> str:
    """`812 ns`, `3.42 us`, `12.3 ms`, `1.52 s`, `2m 05s`, `3h 07m`, `2d 04h`; `-` for None.

    At most seven columns wide, so that a column of them aligns by its units.
    """
    if ns is None:
        return "-"
    if ns < 0:
        return "-" + duration(-ns)
    if ns < 999.5:
        return f"{ns:.0f} ns"
    for unit, size in _UNITS[1:]:
        if ns / size < 999.5 and not (unit == "s" and ns >= 2 * _MINUTE_NS - 5e8):
            return f"{_three_digits(ns / size)} {unit}"
    seconds = round(ns / 1e9)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours < 1:
        return f"{minutes}m {seconds % 60:02d}s"
    if days < 1:
        return f"{hours}h {minutes % 60:02d}m"
    return f"{days}d {hours % 24:02d}h"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def count(n: int) -> str:
    """A whole number with thousands set apart; from a hundred million on, shortened."""
    if abs(n) < 100_000_000:
        return f"{n:,}"
    if abs(n) < 999_500_000:
        return f"{n / 10**6:.0f}M"
    return f"{n / 10**9:,.3g}G" if abs(n) < 999_500_000_000 else f"{n / 10**12:,.1f}T"


def size(n_bytes: int) -> str:
    """`812 B`, `3.42 kB`, `51.2 MB`, `1.5 GB`."""
    if n_bytes < 1_000:
        return f"{n_bytes} B"
    for unit, one in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if n_bytes < 999.5 * one:
            return f"{_three_digits(n_bytes / one)} {unit}"
    return f"{n_bytes / 10**12:,.2f} TB"


def plural(n: int, one: str, many: str = "") -> str:
    """`1 span`, `2,048 spans`; `many` for words that take no s."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share of one as `12.3%`; `<0.1%` for what is there but rounds to nothing."""
    if share <= 0:
        return "0%"
    if share < 0.0005:
        return "<0.1%"
    return f"{share * 100:.1f}%" if share < 0.9995 else "100%"


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """`width` columns, filled from the left by `share` of one, to an eighth of a column.

    What is there at all shows at least the thinnest mark.
    """
    share = min(max(share, 0.0), 1.0)
    if ascii_only:
        filled = max(round(share * width), 1 if share >= 0.0005 else 0)
        return ("#" * filled).ljust(width)
    eighths = max(round(share * width * 8), 1 if share >= 0.0005 else 0)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)


def moment(wall_ns: int) -> str:
    """A wall-clock time (ns since 1970) as local `2026-01-31 14:05:09`."""
    return _local(wall_ns, "%Y-%m-%d %H:%M:%S")


def short_moment(wall_ns: int) -> str:
    """The same without the year and the seconds: `01-31 14:05`."""
    return _local(wall_ns, "%m-%d %H:%M")


def clock_time(wall_ns: int) -> str:
    """The time of day alone, with milliseconds."""
    return f"{_local(wall_ns, '%H:%M:%S')}.{wall_ns // 1_000_000 % 1000:03d}"


def _local(wall_ns: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(wall_ns // 1_000_000_000).strftime(form)
    except (OverflowError, OSError, ValueError):  # a clock that was far off, or no time at all
        return f"{wall_ns} ns"
