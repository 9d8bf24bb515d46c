"""The rules of dirty tracking, 7 to 13: other stores, failures, large flushes. Rules 10 and 11
are about processes: tests/keep has them for each back end."""

from __future__ import annotations

import msgspec
import pytest

from afterglow.errors import EntryError, StoreError
from afterglow.keep.backend import Changes, Put
from afterglow.keep.store import TraceStore
from tests.contracts.trace_store.conftest import Stores
from tests.contracts.trace_store.failing import Stopping, held_flush, payload_of, put


@pytest.fixture
def store(stores: Stores, stopping: Stopping) -> TraceStore:
    return stores(backend=stopping)


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
    stores: Stores, store: TraceStore, stopping: Stopping
) -> None:
    def picky(changes: Changes) -> None:
        if any(item.record.trace_id == "bad" for item in changes.puts):
            raise ValueError("a value that a driver cannot carry")

    stopping.before = picky
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
    stores: Stores, store: TraceStore, stopping: Stopping
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

    stopping.before = full_later
    with pytest.raises(StoreError, match="the disk is full"):
        store.flush()
    assert store.counters()["flush_errors"] == 1
    assert 0 < store.dirty < 600
    assert store.count() == 599
    with pytest.raises(StoreError):
        store.close()
    assert payload_of(store, "8") == 8
    stopping.before = lambda _changes: None
    store.flush()
    assert store.dirty == 0
    assert stores().count() == 599


def test_9_what_is_too_much_is_flushed_or_refused(stores: Stores, stopping: Stopping) -> None:
    store = stores(backend=stopping, max_dirty_entries=10)
    for i in range(25):
        put(store, i, str(i))
    assert store.dirty <= 10
    assert stores().count() == 20

    def full(_changes: Changes) -> None:
        raise StoreError("the disk is full")

    stopping.before = full
    with pytest.raises(StoreError):
        for i in range(100, 125):
            put(store, i, str(i))
    assert store.dirty == 10
    stopping.before = lambda _changes: None
    small = stores(backend=stopping, max_dirty_bytes=1_000)
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


def test_13_big_flushes_go_in_chunks(store: TraceStore, stopping: Stopping) -> None:
    for i in range(1_000):
        put(store, i, str(i))
    report = store.flush()
    assert (report.entries, report.encodes, report.chunks) == (1_000, 1_000, 4)
    for i in range(8):
        put(store, "x" * 600_000, f"big{i}")
    assert store.flush().chunks == 4
    assert all(len(changes.puts) <= 256 for changes in stopping.applied)


@pytest.mark.parametrize("after", [False, True])
def test_13_readers_and_writers_go_on_while_a_flush_writes(
    stores: Stores, store: TraceStore, stopping: Stopping, after: bool
) -> None:
    for i in range(10):
        put(store, i, str(i), tags=["t"])
    gate, thread = held_flush(store, stopping, after=after)
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
    for partition, entries in (("small", 100), ("large", 5_000)):
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


def test_a_transaction_that_fails_leaves_nothing(store: TraceStore, stopping: Stopping) -> None:
    put(store, 1)
    put(store, 1, "y")
    store.flush()
    record = stopping.read(["x"], links=False).records["x"]
    new = msgspec.structs.replace(record, trace_id="new")
    broken = msgspec.structs.replace(record, reinforcement_count=1 << 70)
    with pytest.raises(Exception, match=r".") as raised:
        stopping.apply(Changes(gone=["y"], puts=[Put(new)], touched=[broken]), 1)
    assert not isinstance(raised.value, AssertionError)
    assert stopping.known(["x", "y", "new"]) == {"x", "y"}
    assert stopping.totals().entries == 2
