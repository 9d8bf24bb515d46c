"""Whatever is done in whatever order, a store is what a plain dictionary would be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from afterglow.keep.backend import LINK_AT, MOST_LINKS
from afterglow.keep.decay import PRUNE_AT, faded, reinforced
from afterglow.keep.profile import Kind, Profile
from afterglow.keep.store import TraceStore
from afterglow.testing import ManualClock
from tests.contracts.trace_store.conftest import Stores

PROFILE = Profile(
    name="model",
    kinds={
        "kept": Kind(0.0, 1.0),
        "slow": Kind(0.5, 0.6),
        "half": Kind(0.7, 0.8, "exponential"),
    },
    tick_s=10.0,
)
IDS = [f"t{i}" for i in range(6)]
ids = st.sampled_from(IDS)
kinds = st.sampled_from(sorted(PROFILE.kinds))
tags = st.lists(st.sampled_from(["a", "b", "ü"]), unique=True, max_size=2)


class Plain:
    """One entry of the model."""

    def __init__(self, kind: str, tick: int) -> None:
        self.become(kind)
        self.anchor, self.tick = PROFILE.kinds[kind].start, tick
        self.peak, self.count = self.anchor, 0
        self.payload: Any = None
        self.tags: tuple[str, ...] = ()
        self.parent: str | None = None

    def become(self, kind: str) -> None:
        self.kind = kind
        self.curve = PROFILE.kinds[kind].curve
        self.rate = PROFILE.kinds[kind].decay_rate

    def strength(self, tick: int) -> float:
        return faded(self.curve, self.anchor, self.rate, tick - self.tick, 0.0)

    def lift(self, strength: float, tick: int) -> None:
        self.anchor, self.tick = strength, tick
        self.peak = max(self.peak, strength)


class Model(RuleBasedStateMachine):
    """Compares one store, opened anew now and then, with a dictionary."""

    stores: Stores
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        # Each run has a partition to itself in the test's one database.
        type(self).runs += 1
        self.partition = f"run {self.runs}"
        self.plain: dict[str, Plain] = {}
        self.pairs: dict[tuple[str, str], list[int]] = {}  # count, linked
        self.tick = 0
        self.since_s = 0.0

    @initialize()
    def begin(self) -> None:
        self.store = self.opened()
        self.store.store(0, kind="kept", trace_id="anchor")
        self.plain["anchor"] = Plain("kept", 0)
        self.plain["anchor"].payload = 0
        self.store.flush()  # the partition is there: time counts from here

    def opened(self) -> TraceStore:
        return self.stores(self.partition, PROFILE, max_dirty_entries=50)

    @property
    def clock(self) -> ManualClock:
        return self.stores.clock

    @rule(trace_id=ids, kind=kinds, payload=st.integers(0, 2), tags=tags, parent=st.none() | ids)
    def put(
        self, trace_id: str, kind: str, payload: int, tags: list[str], parent: str | None
    ) -> None:
        if parent == trace_id:
            parent = None
        self.store.store(payload, kind=kind, trace_id=trace_id, tags=tags, parent_id=parent)
        entry = self.plain.get(trace_id)
        if entry is None:
            entry = self.plain[trace_id] = Plain(kind, self.tick)
        elif entry.kind != kind:
            strength = max(entry.strength(self.tick), PROFILE.kinds[kind].start)
            entry.become(kind)
            entry.lift(strength, self.tick)
        entry.payload, entry.tags, entry.parent = payload, tuple(tags), parent

    @rule(trace_id=ids, imprinting=st.booleans())
    def reinforce(self, trace_id: str, imprinting: bool) -> None:
        outcome = self.store.reinforce(trace_id, imprinting=imprinting)
        entry = self.plain.get(trace_id)
        assert bool(outcome) == (entry is not None and entry.rate > 0)
        if entry is not None and outcome:
            entry.lift(reinforced(entry.strength(self.tick), imprinting), self.tick)
            entry.count += 1

    @rule(trace_id=ids)
    def delete(self, trace_id: str) -> None:
        there = trace_id in self.plain
        assert self.store.delete(trace_id) == there
        if there:  # else it may be a parent that is yet to come
            self.forget(trace_id)

    def forget(self, trace_id: str) -> None:
        self.plain.pop(trace_id, None)
        self.pairs = {key: pair for key, pair in self.pairs.items() if trace_id not in key}
        for entry in self.plain.values():
            if entry.parent == trace_id:
                entry.parent = None

    @rule(a=ids, b=ids, times=st.integers(1, 3))
    def link(self, a: str, b: str, times: int) -> None:
        for _ in range(times):
            outcome = self.store.record_coactivation(a, b)
            there = a in self.plain and b in self.plain and a != b
            assert bool(outcome) == there
            if there:
                pair = self.pairs.setdefault((min(a, b), max(a, b)), [0, 0])
                pair[0] += 1
                if pair[0] >= LINK_AT and all(len(self.linked(i)) < MOST_LINKS for i in (a, b)):
                    pair[1] = 1
                assert (outcome.count, outcome.linked) == (pair[0], bool(pair[1]))

    def linked(self, trace_id: str) -> set[str]:
        found = {key for key, pair in self.pairs.items() if pair[1] and trace_id in key}
        return {other for key in found for other in key if other != trace_id}

    @rule()
    def flush(self) -> None:
        self.store.flush()
        assert self.store.dirty == 0

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()

    @rule(ticks=st.integers(0, 8))
    def decay(self, ticks: int) -> None:
        total = len(self.plain)
        self.tick += ticks
        self.prune(self.store.decay_cycle(ticks=ticks), total)

    @rule(seconds=st.integers(0, 45))
    def wait(self, seconds: int) -> None:
        self.clock.advance_s(seconds)
        self.since_s += seconds
        total = len(self.plain)
        ticks, self.since_s = divmod(self.since_s, PROFILE.tick_s)
        self.tick += int(ticks)
        cycle = self.store.decay_cycle(ticks=None)
        assert cycle.ticks == ticks
        self.prune(cycle, total)

    def prune(self, cycle: Any, total: int) -> None:
        gone = [i for i, entry in self.plain.items() if entry.strength(self.tick) <= PRUNE_AT]
        for trace_id in gone:
            self.forget(trace_id)
        assert (cycle.total, cycle.pruned, cycle.remaining) == (total, len(gone), len(self.plain))

    @rule(kind=kinds)
    def erase(self, kind: str) -> None:
        gone = [i for i, entry in self.plain.items() if entry.kind == kind and i != "anchor"]
        if kind != "kept":
            assert self.store.erase_by_kind(kind) == len(gone)
            for trace_id in gone:
                self.forget(trace_id)

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def same(self) -> None:
        store, plain = self.store, self.plain
        assert store.count() == len(plain)
        by_strength = sorted(plain, key=lambda i: (-plain[i].strength(self.tick), i))
        found = store.all()
        assert [entry.trace_id for entry in found] == by_strength
        for entry in found:
            expected = plain[entry.trace_id]
            children = sorted(i for i, e in plain.items() if e.parent == entry.trace_id)
            assert (
                entry.payload, entry.kind, entry.tags, entry.parent_id, entry.strength,
                entry.peak_strength, entry.reinforcement_count, entry.child_ids, entry.associated,
            ) == (
                expected.payload, expected.kind, expected.tags, expected.parent,
                expected.strength(self.tick), expected.peak, expected.count, tuple(children),
                tuple(sorted(self.linked(entry.trace_id))),
            )  # fmt: skip
        tagged = [entry.trace_id for entry in store.by_tag("a")]
        assert tagged == [i for i in by_strength if "a" in plain[i].tags]
        assert store.get("t9") is None


def run(stores: Stores, examples: int, steps: int) -> None:
    machine = type("Machine", (Model,), {"stores": stores})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_store_is_what_a_dictionary_is(stores: Stores) -> None:
    run(stores, examples=15, steps=30)


@pytest.mark.soak
def test_a_store_is_what_a_dictionary_is_for_long(stores: Stores) -> None:
    run(stores, examples=400, steps=60)
