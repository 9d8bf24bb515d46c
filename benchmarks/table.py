"""Rows of results: as a table for people, as JSON for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import Sample

Value = Sample | float | int | str | None


@dataclass
class Check:
    """One figure of the design's target table against what was measured."""

    text: str
    measured: str
    met: bool


@dataclass
class Row:
    """One measurement of every subject, in one unit."""

    case: str
    unit: str
    values: dict[str, Value]
    checks: list[Check] = field(default_factory=list)


def at_most(what: str, measured: float, target: float, unit: str = "") -> Check:
    return Check(f"{what} <= {target:g}{unit}", f"{measured:.3g}{unit}", measured <= target)


def at_least(what: str, measured: float, target: float, unit: str = "") -> Check:
    return Check(f"{what} >= {target:,g}{unit}", f"{_short(measured)}{unit}", measured >= target)


def low(value: Value) -> float:
    """The low percentile, where there is one."""
    if isinstance(value, Sample):
        return value.low
    assert isinstance(value, int | float)
    return value


def against_peers(values: dict[str, Value], peer: str = "otel") -> str:
    """How many times cheaper than the peer: low percentiles, then medians."""
    ours, theirs = values.get("afterglow"), values.get(peer)
    if not isinstance(ours, Sample) or not isinstance(theirs, Sample):
        return ""
    return f"{theirs.low / ours.low:.1f} / {theirs.median / ours.median:.1f}"


def _short(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, Sample):
        return f"{_short(value.low)} / {_short(value.median)}"
    return _short(value)


def table(rows: list[Row], subjects: list[str]) -> list[str]:
    """The rows, a column a subject, and how much cheaper we are than the SDK."""
    head = ["case", "unit", *subjects, "otel : afterglow"]
    lines = [
        [row.case, row.unit, *(shown(row.values.get(s)) for s in subjects),
         against_peers(row.values)]
        for row in rows
    ]  # fmt: skip
    return aligned(head, lines)


def checks(rows: list[Row]) -> list[str]:
    """What was to be reached, what was reached, and whether that is enough."""
    lines = [
        [check.text, check.measured, "met" if check.met else "NOT MET"]
        for row in rows
        for check in row.checks
    ]
    return aligned(["target", "measured", ""], lines) if lines else []


def aligned(head: list[str], lines: list[list[str]]) -> list[str]:
    """A Markdown table that is also readable on a terminal."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def drawn(cells: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    return [drawn(head), drawn(["-" * w for w in widths]), *map(drawn, lines)]


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    def plain(value: Value) -> Any:
        return value._asdict() if isinstance(value, Sample) else value

    return [
        {
            "case": row.case,
            "unit": row.unit,
            "values": {name: plain(value) for name, value in row.values.items()},
            "checks": [vars(check) for check in row.checks],
        }
        for row in rows
    ]
