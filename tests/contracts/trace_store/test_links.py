"""Co-activations count in both directions; at three both link, unless one is full."""

from __future__ import annotations

import pytest

from afterglow.keep.store import TraceStore
from tests.contracts.trace_store.conftest import Stores


def linked(store: TraceStore, trace_id: str) -> tuple[str, ...]:
    entry = store.get(trace_id)
    assert entry is not None
    return entry.associated


def link(store: TraceStore, a: str, b: str) -> bool:
    for _ in range(3):
        outcome = store.record_coactivation(a, b)
    return outcome.linked


@pytest.fixture
def filled(store: TraceStore) -> TraceStore:
    for name in ["a", "b", "c", *(f"n{i:02d}" for i in range(25))]:
        store.store(1, kind="semantic", trace_id=name)
    return store


@pytest.mark.parametrize("flushes", ["never", "each", "between"])
def test_three_times_link_both(stores: Stores, filled: TraceStore, flushes: str) -> None:
    if flushes != "never":
        filled.flush()
    for number, (a, b) in enumerate([("a", "b"), ("b", "a"), ("a", "b")], 1):
        outcome = filled.record_coactivation(a, b)
        assert (outcome.count, outcome.linked) == (number, number == 3)
        assert linked(filled, "a") == (("b",) if number == 3 else ())
        if flushes == "each":
            filled.flush()
    assert linked(filled, "b") == ("a",)
    assert [entry.trace_id for entry in filled.associated("b")] == ["a"]
    filled.flush()
    for reader in (filled, stores()):
        assert (linked(reader, "a"), linked(reader, "b")) == (("b",), ("a",))
        (pair,) = reader._backend.pairs("b")
        assert (pair.a, pair.b, pair.count, pair.linked) == ("b", "a", 3, True)


def test_what_is_refused_says_why(filled: TraceStore) -> None:
    assert "itself" in filled.record_coactivation("a", "a").reason
    assert "not found" in filled.record_coactivation("a", "nobody").reason
    filled.flush()
    assert "not found" in filled.record_coactivation("nobody", "a").reason
    filled.delete("b")
    assert not filled.record_coactivation("a", "b")
    assert filled.flush().links == 0
    assert filled.counters()["refused"] == 4


@pytest.mark.parametrize("flushed", [False, True])
def test_neither_links_where_one_is_full(stores: Stores, filled: TraceStore, flushed: bool) -> None:
    if flushed:
        filled.flush()
    for i in range(20):
        assert link(filled, "a", f"n{i:02d}")
        if flushed:
            filled.flush()
    assert not link(filled, "b", "a")
    assert not link(filled, "a", "b")
    assert len(linked(filled, "a")) == 20
    filled.flush()
    assert linked(stores(), "b") == ()
    filled.delete("n07")
    assert filled.record_coactivation("a", "b").linked
    filled.flush()
    assert linked(stores(), "b") == ("a",)
    assert len(linked(stores(), "a")) == 20


def test_two_stores_add_up(stores: Stores, filled: TraceStore) -> None:
    filled.flush()
    other = stores()
    filled.record_coactivation("a", "b")
    other.record_coactivation("a", "b")
    other.record_coactivation("a", "b")
    filled.flush()
    other.flush()
    assert linked(filled, "a") == ("b",)
    (pair,) = filled._backend.pairs("a")
    assert pair.count == 3


@pytest.mark.parametrize("full", ["a", "n20"])
def test_two_stores_that_both_saw_room_link_once(
    stores: Stores, filled: TraceStore, full: str
) -> None:
    """`full` has room for one more link, and is the first of both pairs or the second."""
    others = [f"n{i:02d}" for i in range(19)]
    for other in others:
        assert link(filled, full, other)
    filled.flush()
    one, two = stores(), stores()
    ends = (("a", "n20"), ("a", "n21")) if full == "a" else ((full, "b"), (full, "c"))
    assert link(one, *ends[0])
    assert link(two, *ends[1])
    one.flush()
    two.flush()
    assert len(linked(stores(), full)) == 20
    (_, loser) = ends[1]
    assert linked(stores(), loser) == linked(two, loser) == ()


def test_an_association_costs_its_own_rows_only(filled: TraceStore) -> None:
    filled.flush()
    link(filled, "a", "b")
    filled.flush()
    filled.record_coactivation("a", "b")
    report = filled.flush()
    assert (report.entries, report.links, report.encodes) == (0, 1, 0)
    assert report.rows <= 3


def test_a_deleted_entry_takes_its_links_along_and_nothing_else(
    stores: Stores, filled: TraceStore
) -> None:
    for flushed in (False, True):
        for name in "bc":
            link(filled, "a", name)
        link(filled, "b", "c")
        if flushed:
            filled.flush()
        assert filled.delete("a")
        for reader in (filled, stores()):
            assert linked(reader, "b") == ("c",)
            assert linked(reader, "c") == ("b",)
            assert reader.get("a") is None
            filled.flush()
        filled.store(1, kind="semantic", trace_id="a")
        assert linked(filled, "a") == ()
        filled.flush()
        assert linked(filled, "a") == ()
