"""docs/trace-store.md states what the rules come to; here they are worked out again."""

from __future__ import annotations

import pytest

from afterglow.keep.decay import PRUNE_AT, crossing, faded, half_life
from afterglow.keep.profile import MEMORY, SPANS, Kind, Profile

UNITS = [("years", 365.25 * 86_400), ("days", 86_400), ("hours", 3_600), ("minutes", 60)]


def in_words(ticks: float | None, tick_s: float) -> str:
    """A time as the page has it: two digits that count, in the largest unit that is over."""
    if ticks is None:
        return "never"
    seconds = ticks * tick_s
    name, unit = next(((n, u) for n, u in UNITS if seconds >= u), UNITS[-1])
    value = seconds / unit
    if value >= 1e6:
        return f"{value:.1e} {name}"
    return f"{value:,.0f} {name}" if value >= 10 else f"{value:.1f} {name}"


def row(name: str, kind: Kind, profile: Profile) -> str:
    """A line of the table."""
    cells = [
        f"`{name}`",
        kind.curve if kind.decay_rate else "",
        f"{kind.decay_rate:.3g}",
        f"{kind.start:g}",
        in_words(half_life(kind.curve, kind.decay_rate), profile.tick_s),
        in_words(half_life(kind.curve, kind.decay_rate, 1.0), profile.tick_s),
        in_words(crossing(kind.curve, kind.start, kind.decay_rate, 0.0), profile.tick_s),
    ]
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize(
    ("profile", "name"),
    [(profile, name) for profile in (MEMORY, SPANS) for name in profile.kinds],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_each_kind_is_in_the_table(pages: dict[str, str], profile: Profile, name: str) -> None:
    assert row(name, profile.kinds[name], profile) in pages["docs/trace-store.md"]


@pytest.mark.parametrize("profile", [MEMORY, SPANS], ids=lambda profile: profile.name)
def test_half_life_and_lifetime_are_what_the_curves_do(profile: Profile) -> None:
    for kind in profile.kinds.values():
        half = half_life(kind.curve, kind.decay_rate)
        if half is not None and half < 1 << 52:
            left = faded(kind.curve, kind.start, kind.decay_rate, round(half), 0.0)
            assert left == pytest.approx(kind.start / 2, rel=1e-2)
        end = crossing(kind.curve, kind.start, kind.decay_rate, 0.0)
        if end is not None:
            assert faded(kind.curve, kind.start, kind.decay_rate, end, 0.0) <= PRUNE_AT
            assert faded(kind.curve, kind.start, kind.decay_rate, end - 1, 0.0) > PRUNE_AT
