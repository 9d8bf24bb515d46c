"""The table of half lives is what the defaults come to."""

from __future__ import annotations

from afterglow.config import RetentionConfig
from afterglow.keep.decay import half_life
from afterglow.keep.profile import Kind
from afterglow.keep.rules import KINDS, lifetime, spans_profile

A_DAY = 1440


def _days(ticks: float | None) -> str:
    return "never" if ticks is None else f"{round(ticks / A_DAY, 1):g}"


def _row(name: str, kind: Kind) -> list[str]:
    half = half_life(kind.curve, kind.decay_rate)
    return [name, str(kind.start), _days(half), _days(lifetime(kind)), _days(lifetime(kind, 1.0))]


def test_half_lives(pages: dict[str, str]) -> None:
    _, _, section = pages["docs/retention.md"].partition("\n## How they fade\n")
    table = section.partition("\n## ")[0].split("|---|---|---|---|---|\n")[1].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    kinds = spans_profile(RetentionConfig()).kinds
    wanted = [_row(name, kind) for name, kind in kinds.items()]
    assert rows == wanted
    assert sorted(kinds) == sorted(KINDS)
