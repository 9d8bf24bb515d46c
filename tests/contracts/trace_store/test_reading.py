"""Strongest first, by index, from what is marked and what is in the database as one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from afterglow.errors import EntryError, SettingError
from afterglow.keep.decay import score
from afterglow.keep.profile import MEMORY, Kind, Profile
from afterglow.keep.store import TraceStore
from afterglow.testing import ManualClock
from tests.contracts.trace_store.conftest import Stores


def ids(entries: list) -> list[str]:  # type: ignore[type-arg]
    return [entry.trace_id for entry in entries]


@pytest.fixture(params=["marked", "flushed", "half"])
def filled(request: pytest.FixtureRequest, store: TraceStore) -> TraceStore:
    """firmware 1.0, identity 1.0, episodic 0.6, semantic 0.5 and 0.6, trust 0.3."""
    store.store(1, kind="firmware", trace_id="f", tags=["a"])
    store.store(1, kind="episodic", trace_id="e", tags=["a", "ab"])
    store.store(1, kind="semantic", trace_id="s1", tags=["ab"])
    if request.param == "half":
        store.flush()
    store.store(1, kind="semantic", trace_id="s2", tags=["a%"])
    store.reinforce("s2")
    store.store(1, kind="trust", trace_id="t")
    if request.param == "half":
        store.reinforce("s1", imprinting=True)
        store.delete("e")
        store.store(1, kind="episodic", trace_id="e", tags=["a", "ab"])
    else:
        store.reinforce("s1", imprinting=True)
    if request.param == "flushed":
        store.flush()
    return store


def test_all_strongest_first(filled: TraceStore) -> None:
    assert ids(filled.all()) == ["f", "s1", "e", "s2", "t"]
    assert ids(filled.all(min_strength=0.6)) == ["f", "s1", "e", "s2"]
    assert ids(filled.all(limit=2)) == ["f", "s1"]
    assert ids(filled.all(limit=0)) == []
    assert filled.count() == 5


def test_by_kind(filled: TraceStore) -> None:
    assert ids(filled.by_kind("semantic")) == ["s1", "s2"]
    assert ids(filled.by_kind("semantic", 0.7)) == ["s1"]
    assert ids(filled.by_kind("procedural")) == []
    with pytest.raises(EntryError, match="unknown kind"):
        filled.by_kind("nothing")


def test_by_tag_is_an_exact_member(filled: TraceStore) -> None:
    assert ids(filled.by_tag("a")) == ["f", "e"]
    assert ids(filled.by_tag("ab")) == ["s1", "e"]
    assert ids(filled.by_tag("a%")) == ["s2"]
    assert ids(filled.by_tag("' OR 1=1 --")) == []
    filled.store(2, kind="semantic", trace_id="s1", tags=["new"])
    for _ in range(2):
        assert ids(filled.by_tag("ab")) == ["e"]
        assert ids(filled.by_tag("new")) == ["s1"]
        filled.flush()


def test_ranked_by_score_at_a_time(filled: TraceStore, clock: ManualClock) -> None:
    clock.advance_s(3_600)
    filled.reinforce("t")
    now = clock.wall_ns()
    found = filled.ranked(["t", "f", "e", "nobody"], at=now)
    assert ids(found) == ["f", "t", "e"]
    assert [entry.score for entry in found] == [
        score(1.0, 3_600, 0.0, False),
        score(0.4, 0, 0.0, False),
        score(0.6, 3_600, 0.0, False),
    ]
    for _ in range(3):
        filled.record_coactivation("e", "t")
    linked = {entry.trace_id: entry.score for entry in filled.ranked(["t", "f", "e"])}
    assert linked["e"] == score(0.6, 3_600, 0.0, True)
    assert linked["f"] == score(1.0, 3_600, 0.0, False)
    assert ids(filled.ranked(["t", "e"], limit=1, min_strength=0.5)) == ["e"]


def test_retrieve_and_reinforce(filled: TraceStore) -> None:
    found = filled.retrieve_and_reinforce(limit=3)
    assert ids(found) == ["f", "s1", "e"]
    assert [entry.reinforcement_count for entry in found] == [0, 2, 1]
    assert [entry.strength for entry in found] == pytest.approx([1.0, 0.9, 0.7])
    assert ids(filled.retrieve_and_reinforce(min_strength=0.95)) == ["f"]


@pytest.mark.parametrize(
    "trace_id", ["", "\0", "a\0b", "\ud800", "x" * 10_000, None, 7, b"f", ["f"]]
)
def test_what_can_be_no_id_is_not_found(filled: TraceStore, trace_id: Any) -> None:
    assert filled.get(trace_id) is None
    assert not filled.delete(trace_id)
    assert filled.reinforce(trace_id).reason == "not found"
    assert not filled.record_coactivation(trace_id, "f")
    assert filled.associated(trace_id) == filled.walk_associations(trace_id) == []
    assert ids(filled.ranked(["f", trace_id])) == ["f"]
    with pytest.raises(EntryError, match="surrogate"):
        filled.by_tag("\ud800")
    assert filled.count() == 5


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda s: s.all(min_strength="x"), "min_strength"),
        (lambda s: s.all(min_strength=math.nan), "min_strength"),
        (lambda s: s.by_kind("semantic", limit=-1), "limit"),
        (lambda s: s.by_tag("t", limit=1.5), "limit"),
        (lambda s: s.associated("f", limit="2"), "limit"),
        (lambda s: s.ranked("f"), "list of ids"),
        (lambda s: s.ranked(["f"], at="now"), "at"),
        (lambda s: s.ranked(["f"], min_strength=None), "min_strength"),
        (lambda s: s.walk_associations("f", max_hops=None), "max_hops"),
        (lambda s: s.walk_associations("f", min_strength=math.nan), "min_strength"),
        (lambda s: s.retrieve_and_reinforce(limit="x"), "limit"),
    ],
    ids=str,
)
def test_looks_that_make_no_sense_say_so(
    filled: TraceStore, look: Callable[[TraceStore], object], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        look(filled)
    assert len(filled.all(limit=1 << 70)) == 5


def test_walks_go_breadth_first_along_links(stores: Stores) -> None:
    store = stores()
    for name in "abcdefx":
        store.store(1, kind="semantic", trace_id=name)
    store.store(1, kind="sensory", trace_id="weak")
    for a, b in ["ab", "bc", "cd", "ac", "de", "ea"]:
        for _ in range(3):
            store.record_coactivation(a, b)
    for _ in range(3):
        store.record_coactivation("weak", "b")
        store.record_coactivation("weak", "f")
    store.flush()
    assert store.walk_associations("a", min_strength=0.45) == [
        ("b", 1, ("a", "b")),
        ("c", 1, ("a", "c")),
        ("e", 1, ("a", "e")),
        ("d", 2, ("a", "c", "d")),
    ]
    steps = store.walk_associations("a")
    assert [step.trace_id for step in steps] == ["b", "c", "e", "weak", "d", "f"]
    assert [s.trace_id for s in store.walk_associations("a", max_hops=1)] == list("bce")
    assert store.walk_associations("a", max_hops=0) == []
    assert store.walk_associations("x") == store.walk_associations("nobody") == []


def test_what_is_handed_out_is_a_copy(filled: TraceStore) -> None:
    filled.store({"list": [1]}, kind="semantic", trace_id="m")
    for _ in range(2):
        entry = filled.get("m")
        assert entry is not None
        entry.payload["list"].append(2)
        with pytest.raises(AttributeError):
            entry.strength = 1.0  # type: ignore[misc]
        again = filled.get("m")
        assert again is not None and again.payload == {"list": [1]}
        filled.flush()


def test_the_strongest_few_are_the_first_of_all(stores: Stores) -> None:
    profile = Profile(name="mixed", kinds={**MEMORY.kinds, "half": Kind(0.1, 0.9, "exponential")})
    store = stores(profile=profile)
    draw = random.Random(1)
    kinds = sorted(profile.kinds)
    for i in range(200):
        tags = draw.sample("abc", draw.randrange(3))
        store.store(
            i, kind=draw.choice(kinds), trace_id=f"{i:03d}", tags=tags, intensity=draw.random()
        )
        if i % 20 == 0:
            store.decay_cycle(ticks=draw.randrange(6))
        if draw.random() < 0.3:
            store.reinforce(f"{draw.randrange(i + 1):03d}")
    store.flush()
    for _ in range(3):
        store.decay_cycle(ticks=draw.randrange(50))
        for i in range(30):
            store.reinforce(f"{draw.randrange(200):03d}", imprinting=i > 20)
        for limit in (1, 7, 60):
            assert store.all(limit=limit) == store.all()[:limit]
            assert store.all(0.3, limit) == store.all(0.3)[:limit]
            assert store.by_tag("b", limit=limit) == store.by_tag("b")[:limit]
            assert store.by_kind("half", limit=limit) == store.by_kind("half")[:limit]


def test_what_was_deleted_just_now_takes_no_place_among_the_strongest(store: TraceStore) -> None:
    for trace_id in "abcd":
        store.store(1, kind="semantic", trace_id=trace_id)
    store.flush()
    store.delete("a")
    store.delete("b")
    assert ids(store.all(limit=2)) == ["c", "d"]
