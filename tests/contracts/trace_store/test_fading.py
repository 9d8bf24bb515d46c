"""Strength follows from ticks; ticks from time or volume; what has faded goes."""

from __future__ import annotations

from typing import Any

import pytest

from afterglow.errors import EntryError, SettingError
from afterglow.keep.decay import crossing, faded, strength
from afterglow.keep.entry import Entry
from afterglow.keep.profile import MEMORY, Kind, Profile
from afterglow.keep.store import TraceStore
from afterglow.testing import ManualClock
from tests.contracts.trace_store.conftest import Stores

FAST = Profile(
    name="fast",
    kinds={
        "kept": Kind(0.0, 1.0, protected=True),
        "power": Kind(1.0, 0.5),
        "half": Kind(0.6931471805599453, 0.8, "exponential"),
    },
    tick_s=10.0,
)


def one(store: TraceStore, trace_id: str) -> Entry:
    entry = store.get(trace_id)
    assert entry is not None
    return entry


def strength_of(store: TraceStore, trace_id: str) -> float:
    return one(store, trace_id).strength


@pytest.mark.parametrize("flushed", [False, True])
def test_decay_compounds_over_cycles(store: TraceStore, flushed: bool) -> None:
    for kind in MEMORY.kinds:
        store.store(1, kind=kind, trace_id=kind, intensity=0.5)
    if flushed:
        store.flush()
    for cycle in range(1, 6):
        store.decay_cycle(ticks=3)
        for name, kind in MEMORY.kinds.items():
            expected = strength(kind.start, kind.decay_rate, 3 * cycle, 0.5)
            assert strength_of(store, name) == expected


def test_a_cycle_writes_one_row_and_those_it_prunes(stores: Stores) -> None:
    store = stores(profile=FAST)
    for i in range(300):
        store.store(i, kind="half", trace_id=f"h{i:03d}", tags=["t"])
    store.store(1, kind="power", trace_id="p")
    store.store(1, kind="kept", trace_id="k")
    store.record_coactivation("p", "h000")
    store.flush()
    first = store.decay_cycle(ticks=6)
    assert (first.decayed, first.pruned, first.total, first.remaining) == (301, 0, 302, 302)
    assert strength_of(store, "h000") == faded(
        "exponential", 0.8, FAST.kinds["half"].decay_rate, 6, 0
    )
    due = crossing("exponential", 0.8, FAST.kinds["half"].decay_rate, 0.0)
    assert due == 7
    second = store.decay_cycle(ticks=1)
    assert (second.decayed, second.pruned, second.total, second.remaining) == (1, 300, 302, 2)
    assert store.count() == 2
    assert store.by_tag("t") == []
    assert store.counters()["pruned"] == 300
    assert stores(profile=FAST).last_cycle == store.last_cycle == second
    assert second.maintained_at == stores.clock.wall_ns()


def test_reinforcement_begins_the_curve_anew_and_puts_pruning_off(stores: Stores) -> None:
    store = stores(profile=FAST)
    store.store(1, kind="half", trace_id="a")
    store.store(1, kind="half", trace_id="b")
    store.flush()
    store.decay_cycle(ticks=6)
    outcome = store.reinforce("a")
    rate = FAST.kinds["half"].decay_rate
    expected = faded("exponential", 0.8, rate, 6, 0.0) + 0.1
    assert outcome and outcome.strength == expected
    store.decay_cycle(ticks=1)  # flushes first
    assert store.get("b") is None
    assert strength_of(store, "a") == faded("exponential", expected, rate, 1, 0.0)


def test_ticks_come_from_time_once(stores: Stores, clock: ManualClock) -> None:
    one, other = stores(profile=FAST), stores(profile=FAST)
    one.store(1, kind="power", trace_id="p")
    one.flush()
    clock.advance_s(9.9)
    assert one.decay_cycle(ticks=None).ticks == 0
    clock.advance_s(20.2)  # late: three are due at 30.1 s
    assert [store.decay_cycle(ticks=None).ticks for store in (one, other, one)] == [3, 0, 0]
    assert strength_of(one, "p") == strength_of(other, "p") == 0.5 / 4
    clock.advance_s(9.9)
    assert [store.decay_cycle(ticks=None).ticks for store in (other, one)] == [1, 0]
    entry = other.get("p")
    assert entry is not None and entry.last_decayed == clock.wall_ns()


def test_a_clock_that_was_set_back_neither_ticks_nor_stops(
    stores: Stores, clock: ManualClock
) -> None:
    store = stores(profile=FAST)
    store.store(1, kind="power")
    store.flush()
    clock.step_wall_s(-1_000_000)
    assert store.decay_cycle(ticks=None).ticks == 0
    clock.advance_s(10)
    assert store.decay_cycle(ticks=None).ticks == 1


def test_ticks_by_volume(stores: Stores, clock: ManualClock) -> None:
    profile = Profile(name="v", kinds=FAST.kinds, tick_entries=10)
    store = stores(profile=profile)
    store.store(1, kind="power", trace_id="p")
    clock.advance_s(1e6)
    assert store.decay_cycle(ticks=None).ticks == 0
    for i in range(23):
        store.store(i, kind="kept", trace_id=f"k{i}")
        store.store(i, kind="kept", trace_id=f"k{i}")  # as it was: nothing new
    assert store.decay_cycle(ticks=None).ticks == 2
    assert stores(profile=profile).decay_cycle(ticks=None).ticks == 0
    for i in range(6):
        store.store(i, kind="kept")
    assert store.decay_cycle(ticks=None).ticks == 1


def test_cycles_take_whole_numbers(store: TraceStore) -> None:
    for wrong in (-1, 1.5, "1", True):
        with pytest.raises(SettingError, match="ticks"):
            store.decay_cycle(ticks=wrong)  # type: ignore[arg-type]
    assert store.last_cycle is None
    assert store.decay_cycle(ticks=0).total == 0


def test_at_the_end_of_time_ticks_stand_still(store: TraceStore) -> None:
    store.store(1, kind="identity", trace_id="i")
    for ticks in (1 << 61, 1 << 61, 1 << 62, 1 << 70, None):
        assert store.decay_cycle(ticks=ticks).remaining == 1
    assert store.reinforce("i")
    assert store.decay_cycle(ticks=1).ticks == 0
    assert strength_of(store, "i") == 1.0


def test_counts_of_a_cycle_are_attributes_and_items(store: TraceStore) -> None:
    store.store(1, kind="semantic")
    cycle = store.decay_cycle()
    counts = dict(cycle)
    assert (counts["decayed"], counts["pruned"], counts["total"]) == (1, 0, 1)
    assert cycle["remaining"] == cycle.remaining == 1
    assert cycle["maintained_at"] == cycle.maintained_at == counts["maintained_at"]
    with pytest.raises(KeyError):
        cycle["no"]
    assert store.last_cycle == cycle


def test_the_peak_is_kept_as_a_record(store: TraceStore) -> None:
    store.store(1, kind="sensory", trace_id="s")
    store.decay_cycle(ticks=1_000)
    assert store.reinforce("s")
    assert one(store, "s").strength < one(store, "s").peak_strength == 0.4


def test_marks_of_strength(store: TraceStore) -> None:
    for kind in ("procedural", "identity"):
        store.store(1, kind=kind, trace_id=kind)
        for _ in range(4):
            store.reinforce(kind)
        assert not one(store, kind).to_archive
    assert not one(store, "procedural").auto_fires  # 0.8
    store.reinforce("procedural")
    assert one(store, "procedural").auto_fires
    assert not one(store, "identity").auto_fires
    store.store(1, kind="sensory", trace_id="faint")
    store.decay_cycle(ticks=10**9)
    assert one(store, "faint").strength <= 0.051
    assert not one(store, "faint").to_archive
    store.decay_cycle(ticks=10**9)
    assert one(store, "faint").to_archive


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_entries": -1},
        {"max_entries": "5"},
        {"max_payload_bytes": -1},
        {"max_payload_bytes": 1.5},
        {"policy": "oldest"},
    ],
    ids=str,
)
def test_a_quota_that_makes_no_sense_takes_nothing(
    store: TraceStore, wrong: dict[str, Any]
) -> None:
    store.store(1, kind="semantic")
    with pytest.raises(SettingError, match=next(iter(wrong))):
        store.enforce_quota(**wrong)
    assert store.count() == 1


def test_reinforcement_is_refused_with_a_reason(store: TraceStore) -> None:
    store.store(1, kind="firmware", trace_id="f")
    outcome = store.reinforce("f")
    assert not outcome and "firmware does not fade" in outcome.reason
    outcome = store.reinforce("nobody")
    assert not outcome and outcome.reason == "not found"
    assert store.counters()["refused"] == 2


def test_reinforcement_lifts_counts_and_stops_at_one(store: TraceStore, clock: ManualClock) -> None:
    store.store(1, kind="trust", trace_id="t")
    for number, expected in enumerate([0.4, 0.7, 1.0, 1.0], 1):
        clock.advance_s(60)
        assert store.reinforce("t", imprinting=number > 1).strength == pytest.approx(expected)
        entry = store.get("t")
        assert entry is not None
        assert entry.peak_strength == entry.strength == pytest.approx(expected)
        assert entry.reinforcement_count == number
        assert entry.last_reinforced == clock.wall_ns()
        store.flush()
    store.decay_cycle(ticks=1000)
    entry = store.get("t")
    assert entry is not None and entry.strength < entry.peak_strength == 1.0


def test_tiers_follow_the_age(stores: Stores, clock: ManualClock) -> None:
    store = stores()
    store.store(1, kind="identity", trace_id="a")
    clock.advance_s(80_000)
    store.store(1, kind="identity", trace_id="b")
    tiers = store.migrate_tiers()
    assert (tiers.hot, tiers.warm, tiers.cold) == (2, 0, 0)
    clock.advance_s(10_000)
    tiers = stores().migrate_tiers()
    assert (tiers.hot, tiers.warm, tiers.cold, tiers.became_warm) == (1, 1, 0, 1)
    assert store.migrate_tiers().became_warm == 0
    clock.advance_s(8_000_000)
    tiers = store.migrate_tiers()
    assert (tiers.warm, tiers.cold, tiers.became_warm, tiers.became_cold) == (0, 2, 0, 2)
    entry = store.get("a")
    assert entry is not None and entry.tier == "cold"


def fill_for_quota(store: TraceStore, clock: ManualClock) -> None:
    store.store("x" * 98, kind="firmware", trace_id="f")
    for i in range(10):
        clock.advance_s(1)
        kind = "identity" if i == 3 else "semantic"
        store.store("x" * 98, kind=kind, trace_id=f"e{i}", confidence=(10 - i) / 10)
    store.reinforce("e0")


@pytest.mark.parametrize(
    ("quota", "gone"),
    [
        ({"max_entries": 11}, []),
        ({"max_entries": 8}, ["e1", "e2", "e3"]),
        ({"max_payload_bytes": 1_099}, ["e1"]),
        ({"max_payload_bytes": 1_000}, ["e1"]),
        ({"max_payload_bytes": 899}, ["e1", "e2", "e3"]),
        ({"max_entries": 8, "policy": "lowest_confidence"}, ["e7", "e8", "e9"]),
        ({"max_entries": 0}, [f"e{i}" for i in range(10)]),
    ],
    ids=str,
)
def test_the_quota_evicts_exactly_what_it_must(
    stores: Stores,
    clock: ManualClock,
    quota: dict,
    gone: list[str],  # type: ignore[type-arg]
) -> None:
    store = stores()
    fill_for_quota(store, clock)
    assert sorted(store.enforce_quota(**quota)) == gone
    assert store.enforce_quota(**quota) == []
    assert store.count() == 11 - len(gone)
    assert store.get("f") is not None
    assert store.counters()["evicted"] == len(gone)


def test_soonest_goes_what_fades_next(stores: Stores) -> None:
    store = stores(profile=FAST)
    store.store(1, kind="power", trace_id="a")
    store.store(1, kind="half", trace_id="b")
    store.store(1, kind="half", trace_id="c")
    store.decay_cycle(ticks=3)
    store.reinforce("b", imprinting=True)
    assert store.enforce_quota(max_entries=1, policy="soonest") == ["c", "b"]


def test_the_profile_has_a_quota(stores: Stores) -> None:
    store = stores(profile=Profile(name="small", kinds=MEMORY.kinds, max_entries=2))
    for i in range(5):
        store.store(i, kind="semantic")
    assert len(store.enforce_quota()) == 3


def test_erasure(stores: Stores) -> None:
    here, there = stores(), stores("other")
    for i in range(600):
        here.store(i, kind="semantic", trace_id=str(i), tags=["t"])
        there.store(i, kind="semantic", trace_id=str(i))
    here.store(1, kind="trust", trace_id="t")
    there.flush()
    assert here.erase_by_kind("semantic") == 600
    assert (here.count(), there.count()) == (1, 600)
    with pytest.raises(EntryError, match="unknown kind"):
        here.erase_by_kind("nothing")
    assert sorted(here.partitions()) == ["default", "other"]
    assert here.erase_by_partition("other") == 600
    assert (here.count(), there.count()) == (1, 0)
    assert here.erase_by_partition("default") == 1
    assert here.erase_by_partition("nowhere") == 0
    assert here.all() == []
