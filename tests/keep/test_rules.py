from __future__ import annotations

import msgspec
import pytest

from afterglow.config import RetentionConfig
from afterglow.keep.backend import Totals
from afterglow.keep.changes import after_use
from afterglow.keep.entry import Moment, Record
from afterglow.keep.rules import (
    KINDS,
    entered,
    judge,
    lifetime,
    spans_profile,
    tick_at,
)
from afterglow.keep.upkeep import due_ticks
from afterglow.model.kept import History, TraceSummary

CONFIG = RetentionConfig()
PROFILE = spans_profile(CONFIG)
MINUTE = 60 * 10**9
NOW = 1_700_000_000 * 10**9

PLAIN = TraceSummary(
    trace_id="1" * 32, service="shop", name="GET /", start_ns=NOW - 1000, end_ns=NOW,
    duration_ns=1_000, status="unset", spans=10, errors=0, bytes=1, last_span=1, going_on=False,
    pinned=False,
)  # fmt: skip
USUAL = History(traces=500, p50_ns=1_000, p99_ns=2_500)


def trace(**changes: object) -> TraceSummary:
    return msgspec.structs.replace(PLAIN, **changes)


def looked_at(before: Record, tick: int, now_ns: int) -> Record:
    return after_use(before, tick, now_ns, imprinting=False)


@pytest.mark.parametrize(
    ("changes", "history", "kind"),
    [
        ({}, USUAL, "normal"),
        ({}, History(traces=1_000, p50_ns=1_000, p99_ns=2_500), "routine"),
        ({}, History(traces=999, p50_ns=1_000, p99_ns=2_500), "normal"),
        ({"errors": 1}, USUAL, "error"),
        ({"duration_ns": 3_001}, USUAL, "slow"),
        ({"duration_ns": 3_000}, USUAL, "normal"),  # not over three times the median
        ({"duration_ns": 3_001}, History(500, 1_000, 3_002), "normal"),  # nor of the slowest
        ({"duration_ns": 3_001}, History(99, 1_000, 2_500), "normal"),  # nobody knows yet
        ({"duration_ns": 9_000, "errors": 1}, USUAL, "error"),
        ({"going_on": True, "errors": 1}, USUAL, "open"),
        ({"pinned": True, "going_on": True}, USUAL, "pinned"),
        ({"duration_ns": None}, History(5_000, 1_000, 2_500), "normal"),
        ({}, History(), "normal"),
    ],
)
def test_the_first_rule_that_fits_decides(
    changes: dict[str, object], history: History, kind: str
) -> None:
    verdict = judge(trace(**changes), history, CONFIG)
    assert verdict.kind == kind
    assert verdict.kind in KINDS
    assert verdict.why


def test_each_rule_has_its_setting() -> None:
    calm = RetentionConfig(keep_errors=False, keep_slow_factor=5.0, keep_routine_after=500)
    assert judge(trace(errors=1), USUAL, calm).kind == "routine"
    assert judge(trace(duration_ns=4_000), USUAL, calm).kind == "routine"
    assert (
        judge(trace(duration_ns=4_000), USUAL, RetentionConfig(keep_slow_after=501)).kind != "slow"
    )


@pytest.mark.parametrize(
    ("changes", "intensity"),
    [
        ({}, 0.0),
        ({"duration_ns": 2_000}, 0.0),
        ({"duration_ns": 4_000}, 0.5),
        ({"duration_ns": 200_000}, 0.99),
        ({"errors": 5}, 0.6),
        ({"errors": 10, "status": "error"}, 1.0),
        ({"errors": 1, "duration_ns": 200_000}, 0.99),
    ],
)
def test_intensity_is_of_errors_and_slowness(changes: dict[str, object], intensity: float) -> None:
    assert judge(trace(**changes), USUAL, CONFIG).intensity == pytest.approx(intensity)


def record(before: Record | None = None, *, tick: int = 100_000, **changes: object) -> Record:
    found = trace(**changes)
    verdict = judge(found, USUAL, CONFIG)
    return entered(found, verdict, before, profile=PROFILE, tick=tick, now_ns=NOW)


def test_a_trace_is_as_old_as_its_end_says() -> None:
    assert record(end_ns=NOW).strength(100_000) == PROFILE.kinds["normal"].start
    assert record(end_ns=NOW - 2 * 1440 * MINUTE).strength(100_000) == pytest.approx(0.25)
    # A clock that was ahead makes no trace younger than now.
    assert record(end_ns=NOW + 1440 * MINUTE).anchor_tick == 100_000


def test_half_of_its_life_is_before_a_trace_that_is_seen_late() -> None:
    life = lifetime(PROFILE.kinds["normal"])
    assert life is not None
    late = record(end_ns=NOW - 10**9 * 86_400 * 365)
    assert late.prune_tick == 100_000 - life // 2 + life
    # ... and the older one of two that are seen in time goes first.
    a, b = record(end_ns=NOW - 5_000 * MINUTE), record(end_ns=NOW - 4_000 * MINUTE)
    assert a.prune_tick is not None and b.prune_tick is not None and a.prune_tick < b.prune_tick


def test_more_of_a_trace_does_not_make_it_younger() -> None:
    first = record(tick=100_000)
    again = record(first, tick=103_000, spans=20)
    assert (again.anchor, again.anchor_tick) == (first.anchor, first.anchor_tick)
    assert again.payload != first.payload


def test_a_trace_that_becomes_an_error_begins_anew_and_no_weaker() -> None:
    strong = looked_at(looked_at(looked_at(record(), 100_000, NOW), 100_000, NOW), 100_000, NOW)
    strong = looked_at(looked_at(strong, 100_000, NOW), 100_000, NOW)
    assert strong.anchor == pytest.approx(1.0)
    worse = record(strong, errors=1)
    assert (worse.kind, worse.anchor, worse.reinforcement_count) == ("error", strong.anchor, 5)
    assert record(record(), errors=1).anchor == PROFILE.kinds["error"].start


def test_pins_never_fade_and_an_unpinned_one_fades_from_its_kind() -> None:
    pinned = record(pinned=True)
    assert (pinned.prune_tick, pinned.strength(1 << 40)) == (None, 1.0)
    assert record(pinned).anchor == PROFILE.kinds["normal"].start


def test_a_look_adds_a_tenth_and_the_curve_starts_anew() -> None:
    before = record(tick=100_000)
    after = looked_at(before, 100_000 + 2 * 1440, NOW + 5)
    assert after.anchor == pytest.approx(0.25 + 0.10)
    assert (after.anchor_tick, after.last_reinforced) == (100_000 + 2 * 1440, NOW + 5)
    assert (after.reinforcement_count, after.peak_strength) == (1, 0.5)


def test_ticks_are_minutes_or_traces() -> None:
    totals = Totals(ingested=25, moment=Moment(tick=7, ticked_at=NOW))
    assert due_ticks(totals, PROFILE, NOW + 3 * MINUTE + 5) == (3, NOW + 3 * MINUTE, 25)
    assert due_ticks(totals, PROFILE, NOW - MINUTE) == (0, NOW - MINUTE, 25)  # set back
    assert tick_at(totals.moment, PROFILE, NOW + 3 * MINUTE + 5) == 10
    volume = spans_profile(RetentionConfig(keep_tick_traces=10))
    assert due_ticks(totals, volume, NOW + 9 * MINUTE) == (2, NOW + 9 * MINUTE, 5)
    assert tick_at(totals.moment, volume, NOW + 9 * MINUTE) == 7


def test_the_settings_are_half_lives() -> None:
    longer = spans_profile(RetentionConfig(keep_normal_half_days=4.0))
    mine, usual = lifetime(longer.kinds["normal"]), lifetime(PROFILE.kinds["normal"])
    assert mine == pytest.approx(2 * (usual or 0), abs=2)
    assert longer.kinds["error"] == PROFILE.kinds["error"]
