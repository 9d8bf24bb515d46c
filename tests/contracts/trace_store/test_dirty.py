"""The rules of dirty tracking, each learnt from data that was lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from afterglow.errors import EntryError, StoreError
from afterglow.keep.backend import Changes
from afterglow.keep.store import TraceStore
from tests.contracts.trace_store.conftest import Stores
from tests.contracts.trace_store.failing import Gate, Stopping


@pytest.fixture
def backend(stores: Stores) -> Stopping:
    return Stopping(stores.place.backend())


@pytest.fixture
def store(stores: Stores, backend: Stopping) -> TraceStore:
    return stores(backend=backend)


def payload_of(store: TraceStore, trace_id: str) -> Any:
    entry = store.get(trace_id)
    return None if entry is None else entry.payload


def put(store: TraceStore, payload: Any, trace_id: str = "x", **more: Any) -> str:
    return store.store(payload, kind="semantic", trace_id=trace_id, **more)


def held_flush(store: TraceStore, backend: Stopping, *, after: bool) -> tuple[Gate, Any]:
    """A flush in a thread of its own that stands before or behind its transaction."""
    gate = Gate()
    setattr(backend, "after" if after else "before", gate.pass_through)
    thread = threading.Thread(target=store.flush)
    thread.start()
    assert gate.reached.wait(30)
    setattr(backend, "after" if after else "before", lambda _changes: None)
    return gate, thread


# --- 1: a mark made while a flush is running stays ------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", ["store", "reinforce", "delete", "restore", "link"])
def test_1_a_change_during_a_flush_is_not_lost(
    stores: Stores, store: TraceStore, backend: Stopping, change: str, after: bool
) -> None:
    put(store, "old")
    put(store, "other", "y")
    store.record_coactivation("x", "y")
    store.record_coactivation("x", "y")
    gate, thread = held_flush(store, backend, after=after)
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
    pairs = {pair.count for pair in backend.pairs("x")}
    assert pairs == {"link": {3}, "delete": set(), "restore": set()}.get(change, {2})


# --- 2: two flushes at once -----------------------------------------------------------------


def test_2_an_older_flush_does_not_overwrite_a_newer(
    stores: Stores, store: TraceStore, backend: Stopping
) -> None:
    put(store, "old")
    gate, first = held_flush(store, backend, after=False)
    put(store, "new")
    second = threading.Thread(target=store.flush)
    second.start()
    gate.open.set()
    first.join()
    second.join()
    assert [changes.puts[0].record.payload for changes in backend.applied] == ['"old"', '"new"']
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


# --- 6: storing what is stored --------------------------------------------------------------


def test_6_storing_what_is_stored_writes_nothing(
    store: TraceStore, backend: Stopping, stores: Stores
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
    assert len(backend.applied) == 1
    assert store.counters()["unchanged"] == 1


# --- 7: partitions, and two stores on one ----------------------------------------------------


def test_7_two_stores_do_not_delete_each_others_entries(stores: Stores) -> None:
    one, two = stores(), stores()
    put(one, 1, "one")
    one.flush()
    put(two, 2, "two")
    two.flush()
    put(one, 3, "three")
    one.flush()
    assert two.delete("two")
    two.flush()
    assert sorted(entry.trace_id for entry in one.all()) == ["one", "three"]
    assert one.count() == two.count() == 2


def test_7_the_partition_is_part_of_every_key(stores: Stores) -> None:
    one, two = stores("one"), stores("two")
    for store, payload in ((one, 1), (two, 2)):
        put(store, payload, tags=["t"])
        put(store, payload, "y", parent_id="x")
        store.flush()
    for _ in range(3):
        two.record_coactivation("x", "y")
    two.flush()
    assert two.reinforce("y")
    two.flush()
    other = one.get("y")
    assert other is not None and other.reinforcement_count == 0
    entry = one.get("x")
    assert entry is not None and (entry.payload, entry.associated) == (1, ())
    one.delete("x")
    one.flush()
    one.decay_cycle(ticks=5)
    entry = two.get("x")
    assert entry is not None
    assert (entry.payload, entry.associated, entry.child_ids) == (2, ("y",), ("y",))
    assert (one.count(), two.count()) == (1, 2)
    assert [e.payload for e in two.by_tag("t")] == [2]
    assert one.by_tag("t") == []
    assert entry.strength == 0.5


def test_7_what_others_removed_stays_away(stores: Stores) -> None:
    one, two = stores(), stores()
    put(one, 1)
    put(one, 1, "y")
    one.flush()
    assert two.reinforce("x")
    assert two.record_coactivation("x", "y")
    one.delete("x")
    one.flush()
    report = two.flush()
    assert (report.missing, two.dirty) == (2, 0)
    assert two.counters()["missing"] == 2
    assert two.get("x") is None


# --- 8: one that cannot be written ----------------------------------------------------------


def test_8_what_the_database_will_not_take_is_set_aside_alone(
    stores: Stores, store: TraceStore, backend: Stopping
) -> None:
    def picky(changes: Changes) -> None:
        if any(item.record.trace_id == "bad" for item in changes.puts):
            raise ValueError("a value that a driver cannot carry")

    backend.before = picky
    for i in range(300):
        put(store, i, str(i))
    put(store, 1, "bad")
    store.record_coactivation("1", "2")
    report = store.flush()
    assert report.set_aside == ("bad",)
    assert (report.entries, report.links, store.dirty) == (300, 1, 0)
    assert store.counters()["set_aside"] == 1
    assert stores().count() == store.count() == 300


def test_8_what_cannot_be_encoded_is_refused_at_once(store: TraceStore) -> None:
    put(store, 1)
    with pytest.raises(EntryError):
        put(store, object())
    assert payload_of(store, "x") == 1
    assert store.flush().entries == 1


# --- 9: errors of a flush ---------------------------------------------------------------------


def test_9_a_failed_flush_says_so_and_keeps_the_marks(
    stores: Stores, store: TraceStore, backend: Stopping
) -> None:
    def full(_changes: Changes) -> None:
        raise StoreError("the disk is full")

    for i in range(600):
        put(store, i, str(i))
    store.delete("7")
    calls: list[Changes] = []

    def full_later(changes: Changes) -> None:
        calls.append(changes)
        if len(calls) > 1:
            full(changes)

    backend.before = full_later
    with pytest.raises(StoreError, match="the disk is full"):
        store.flush()
    assert store.counters()["flush_errors"] == 1
    assert 0 < store.dirty < 600
    assert store.count() == 599
    with pytest.raises(StoreError):
        store.close()
    assert payload_of(store, "8") == 8
    backend.before = lambda _changes: None
    store.flush()
    assert store.dirty == 0
    assert stores().count() == 599


def test_9_what_is_too_much_is_flushed_or_refused(stores: Stores, backend: Stopping) -> None:
    store = stores(backend=backend, max_dirty_entries=10)
    for i in range(25):
        put(store, i, str(i))
    assert store.dirty <= 10
    assert stores().count() == 20

    def full(_changes: Changes) -> None:
        raise StoreError("the disk is full")

    backend.before = full
    with pytest.raises(StoreError):
        for i in range(100, 125):
            put(store, i, str(i))
    assert store.dirty == 10
    backend.before = lambda _changes: None
    small = stores(backend=backend, max_dirty_bytes=1_000)
    for i in range(20):
        put(small, "x" * 300, f"s{i}")
    assert small.dirty <= 4


# --- 12: parameters --------------------------------------------------------------------------

NASTY = [
    "'",
    '"',
    "'; DROP TABLE entries; --",
    "%",
    "_",
    "\\",
    "?",
    ":x",
    "a\nb",
    "%s",
    '["x"]',
    "💥",
]


@pytest.mark.parametrize("text", NASTY)
def test_12_ids_tags_and_payloads_are_only_text(stores: Stores, text: str) -> None:
    store = stores(partition=text)
    other = put(store, 1, "other")
    put(store, text, text, tags=[text], source_id=text, parent_id=other)
    for _ in range(3):
        store.record_coactivation(text, other)
    store.flush()
    entry = stores(partition=text).get(text)
    assert entry is not None
    assert (entry.payload, entry.tags, entry.source_id) == (text, (text,), text)
    assert entry.associated == (other,)
    assert [e.trace_id for e in store.by_tag(text)] == [text]
    assert store.partitions() == [text]
    assert store.delete(text)
    store.flush()
    assert store.erase_by_partition(text) == 1


# --- 13: chunks, and no lock that readers need ---------------------------------------------------


def test_13_big_flushes_go_in_chunks(store: TraceStore, backend: Stopping) -> None:
    for i in range(1_000):
        put(store, i, str(i))
    report = store.flush()
    assert (report.entries, report.encodes, report.chunks) == (1_000, 1_000, 4)
    for i in range(8):
        put(store, "x" * 600_000, f"big{i}")
    assert store.flush().chunks == 4
    assert all(len(changes.puts) <= 256 for changes in backend.applied)


@pytest.mark.parametrize("after", [False, True])
def test_13_readers_and_writers_go_on_while_a_flush_writes(
    stores: Stores, store: TraceStore, backend: Stopping, after: bool
) -> None:
    for i in range(10):
        put(store, i, str(i), tags=["t"])
    gate, thread = held_flush(store, backend, after=after)
    assert payload_of(store, "3") == 3
    assert len(store.all()) == len(store.by_tag("t")) == len(store.by_kind("semantic")) == 10
    assert store.reinforce("4")
    assert store.delete("5")
    put(store, "new", "11")
    assert len(store.ranked(["3", "4", "5"])) == 2
    assert store.counters()["flushed"] == 0
    gate.open.set()
    thread.join()
    assert store.count() == 10
    store.flush()
    assert stores().count() == 10


def test_a_flush_costs_what_changed_whatever_is_there(stores: Stores) -> None:
    reports = []
    for partition, entries in (("small", 100), ("large", 20_000)):
        store = stores(partition)
        for i in range(entries):
            put(store, {"n": i}, str(i), tags=["t"])
        store.flush()
        found = []
        for change in (
            lambda s: put(s, "new", "50", tags=["t"]),
            lambda s: s.reinforce("51"),
            lambda s: [s.reinforce(str(i)) for i in range(80)],
            lambda s: s.record_coactivation("1", "2"),
            lambda s: s.delete("60"),
            lambda s: None,
        ):
            change(store)
            found.append(store.flush())
        reports.append(found)
        cycle = store.decay_cycle(ticks=1)
        assert (cycle.pruned, cycle.remaining) == (0, entries - 1)
    assert reports[0] == reports[1]
