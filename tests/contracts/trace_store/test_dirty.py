"""The rules of dirty tracking, each learnt from data that was lost: 1 to 6, of one store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from afterglow.keep.store import TraceStore
from tests.contracts.trace_store.conftest import Stores
from tests.contracts.trace_store.failing import Stopping, held_flush, payload_of, put


@pytest.fixture
def store(stores: Stores, stopping: Stopping) -> TraceStore:
    return stores(backend=stopping)


# --- 1: a mark made while a flush is running stays ------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", ["store", "reinforce", "delete", "restore", "link"])
def test_1_a_change_during_a_flush_is_not_lost(
    stores: Stores, store: TraceStore, stopping: Stopping, change: str, after: bool
) -> None:
    put(store, "old")
    put(store, "other", "y")
    store.record_coactivation("x", "y")
    store.record_coactivation("x", "y")
    gate, thread = held_flush(store, stopping, after=after)
    if change == "store":
        put(store, "new")
    elif change == "reinforce":
        assert store.reinforce("x")
    elif change == "link":
        assert store.record_coactivation("x", "y").count == 3
    else:
        assert store.delete("x")
        if change == "restore":
            put(store, "again")
    seen = store.get("x")
    gate.open.set()
    thread.join()
    assert store.get("x") == seen
    assert store.dirty > 0
    store.flush()
    assert store.dirty == 0
    assert store.get("x") == stores().get("x") == seen
    assert store.count() == stores().count() == (1 if change == "delete" else 2)
    pairs = {pair.count for pair in stopping.pairs("x")}
    assert pairs == {"link": {3}, "delete": set(), "restore": set()}.get(change, {2})


# --- 2: two flushes at once -----------------------------------------------------------------


def test_2_an_older_flush_does_not_overwrite_a_newer(
    stores: Stores, store: TraceStore, stopping: Stopping
) -> None:
    put(store, "old")
    gate, first = held_flush(store, stopping, after=False)
    put(store, "new")
    second = threading.Thread(target=store.flush)
    second.start()
    gate.open.set()
    first.join()
    second.join()
    assert [changes.puts[0].record.payload for changes in stopping.applied] == ['"old"', '"new"']
    assert payload_of(stores(), "x") == "new"


# --- 3: delete, then store ------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
def test_3_delete_then_store_keeps_the_entry(
    stores: Stores, store: TraceStore, flushed: bool
) -> None:
    put(store, "old", tags=["old"])
    put(store, 1, "y", parent_id="x")
    for _ in range(3):
        store.record_coactivation("x", "y")
    if flushed:
        store.flush()
    store.delete("x")
    put(store, "new")
    for reader in (store, store, stores()):
        entry = reader.get("x")
        assert entry is not None
        assert (entry.payload, entry.tags) == ("new", ())
        assert (entry.associated, entry.child_ids) == ((), ())
        other = reader.get("y")
        assert other is not None and (other.associated, other.parent_id) == ((), None)
        assert reader.count() == 2
        store.flush()


def test_3_what_came_back_keeps_its_new_parent_whatever_the_order(
    stores: Stores, store: TraceStore
) -> None:
    others = [str(i) for i in range(600)]
    for name in ("p", "c", *others):
        put(store, 1, name)
    store.flush()
    for name in ("p", "c", *others):
        store.delete(name)
    put(store, 2, "c", parent_id="p")
    for name in others:
        put(store, 2, name)
    put(store, 2, "p")
    store.reinforce("p")
    store.flush()
    entry = stores().get("p")
    assert entry is not None and entry.child_ids == ("c",)


# --- 4: deleting a linked entry changes its neighbours ---------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
def test_4_neighbours_of_a_deleted_entry_lose_the_link(
    stores: Stores, store: TraceStore, flushed: bool
) -> None:
    for name in "abc":
        put(store, 1, name)
    for _ in range(3):
        store.record_coactivation("a", "b")
        store.record_coactivation("b", "c")
    if flushed:
        store.flush()
    store.delete("b")
    for reader in (store, store, stores()):
        for name in "ac":
            entry = reader.get(name)
            assert entry is not None and entry.associated == ()
        store.flush()
    assert backend_pairs(stores) == []


def test_4_who_comes_after_a_deleted_entry_inherits_nothing(store: TraceStore) -> None:
    for name in "abc":
        put(store, 1, name, tags=["t"])
    for _ in range(3):
        store.record_coactivation("b", "c")
        store.record_coactivation("c", "a")
    store.flush()
    store.delete("c")
    store.flush()
    put(store, 1, "d")
    store.flush()
    entry = store.get("d")
    assert entry is not None and entry.associated == ()
    assert [e.trace_id for e in store.by_tag("t")] == ["a", "b"]


def backend_pairs(stores: Stores) -> list[Any]:
    backend = stores.place.backend()
    found = [pair for name in "abc" for pair in backend.pairs(name)]
    backend.close()
    return found


# --- 5: in-place changes --------------------------------------------------------------------


def test_5_what_is_changed_in_place_is_not_the_stores_any_more(
    stores: Stores, store: TraceStore
) -> None:
    payload = {"list": [1]}
    tags = ["a"]
    vector = [1.0]
    put(store, payload, tags=tags, embedding=vector)
    payload["list"].append(2)
    tags.append("b")
    vector[0] = 2.0
    store.flush()
    for reader in (store, stores()):
        entry = reader.get("x")
        assert entry is not None
        assert (entry.payload, entry.tags, entry.embedding) == ({"list": [1]}, ("a",), [1.0])
    put(store, payload)
    assert store.flush().entries == 1
    assert payload_of(stores(), "x") == {"list": [1, 2]}


@pytest.mark.parametrize("view", [bytearray, lambda raw: memoryview(bytearray(raw))])
def test_5_bytes_that_can_be_changed_are_copied(
    stores: Stores, store: TraceStore, view: Callable[[bytes], Any]
) -> None:
    payload = view(b"before")
    put(store, payload)
    payload[:1] = b"B"
    assert payload_of(store, "x") == b"before"
    store.flush()
    assert payload_of(stores(), "x") == b"before"


# --- 6: storing what is stored --------------------------------------------------------------


def test_6_storing_what_is_stored_writes_nothing(
    store: TraceStore, stopping: Stopping, stores: Stores
) -> None:
    more: dict[str, Any] = {
        "tags": ["a", "b"],
        "embedding": [1.5],
        "valence": 0.5,
        "parent_id": "p",
    }
    put(store, {"a": [1, None]}, **more)
    assert store.flush().entries == 1
    put(store, {"a": [1, None]}, **more)
    assert store.dirty == 0
    assert stores().store({"a": [1, None]}, kind="semantic", trace_id="x", **more) == "x"
    report = store.flush()
    assert (report.entries, report.encodes, report.rows, report.chunks) == (0, 0, 0, 0)
    assert len(stopping.applied) == 1
    assert store.counters()["unchanged"] == 1


def test_a_row_that_was_read_before_a_flush_counts_no_more(
    stores: Stores, store: TraceStore, stopping: Stopping
) -> None:
    put(store, 1)
    put(store, 1, "y")
    store.flush()

    def overtake() -> None:
        store.reinforce("x")
        store.record_coactivation("x", "y")
        store.flush()

    stopping.once_read = overtake
    assert store.reinforce("x")
    stopping.once_read = overtake
    assert store.record_coactivation("x", "y").count == 3
    store.flush()
    entry = stores().get("x")
    assert entry is not None
    assert entry.reinforcement_count == 3
    assert entry.associated == ("y",)


@pytest.mark.parametrize("change", ["reinforce", "delete", "store"])
def test_a_row_that_was_read_before_a_mark_counts_no_more(
    stores: Stores, store: TraceStore, stopping: Stopping, change: str
) -> None:
    put(store, 1)
    store.flush()

    def overtake() -> None:
        if change == "reinforce":
            store.reinforce("x")
        elif change == "delete":
            store.delete("x")
        else:
            put(store, 2)

    stopping.once_read = overtake
    assert bool(store.reinforce("x")) is (change != "delete")
    store.flush()
    entry = stores().get("x")
    if change == "delete":
        assert entry is None
    else:
        assert entry is not None
        assert entry.reinforcement_count == (2 if change == "reinforce" else 1)
        assert entry.payload == (2 if change == "store" else 1)


def test_a_count_is_right_while_a_flush_commits(store: TraceStore, stopping: Stopping) -> None:
    for i in range(10):
        put(store, i, str(i))
    gate, thread = held_flush(store, stopping, after=True)

    def go_on() -> None:
        gate.open.set()
        thread.join()

    stopping.once_read = go_on
    assert store.count() == 10
