"""What is stored comes back as it was, now and after a flush; what cannot be kept is refused."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.errors import EntryError
from afterglow.keep.entry import Entry
from afterglow.keep.store import TraceStore
from afterglow.testing import ManualClock
from tests.contracts.trace_store.conftest import Stores

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)

ODD = [
    None,
    True,
    0,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    0.1 + 0.2,
    2**63,
    -(2**64) - 1,
    10**300,
    "",
    "\0",
    "a\0b",
    "Zürich 漢字 🜁",
    '{"looks": "like JSON"}',
    "null",
    "1",
    [],
    {},
    {"": {"": [[], {}, ""]}},
    {"é\0": ["\ud7ff", "\ue000", "\U0010ffff"]},
    [[1.5, [2.5, {"deep": None}]], "2026-11-26T00:00:00Z"],
    b"",
    b"\x00\xff\xfe not text",
    b'{"bytes": 1}',
]


def same(a: Any, b: Any) -> bool:
    """Equal, and of one type, -0.0 and True told apart from 0.0 and 1."""
    return repr(a) == repr(b)


@pytest.mark.parametrize("payload", ODD, ids=lambda p: repr(p)[:24])
def test_a_payload_comes_back_as_it_was(stores: Stores, payload: Any) -> None:
    store = stores()
    trace_id = store.store(payload, kind="semantic")
    entry = store.get(trace_id)
    assert entry is not None and same(entry.payload, payload)
    store.flush()
    for reader in (store, stores()):
        entry = reader.get(trace_id)
        assert entry is not None and same(entry.payload, payload)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    payload=payloads,
    tags=st.lists(texts, max_size=4, unique=True),
    source_id=st.none() | texts,
    embedding=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    numbers=st.tuples(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1)),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_every_field_comes_back_as_it_was(
    store: TraceStore,
    payload: Any,
    tags: list[str],
    source_id: str | None,
    embedding: list[float] | None,
    numbers: tuple[float, float, float],
    flags: tuple[bool, bool, bool],
) -> None:
    intensity, valence, confidence = numbers
    trace_id = store.store(
        payload,
        kind="trust",
        tags=tags,
        intensity=intensity,
        valence=valence,
        confidence=confidence,
        origin="mesh_transfer",
        source_id=source_id,
        parent_id="parent",
        embedding=embedding,
        unresolved=flags[0],
        consolidation_candidate=flags[1],
        imprinting=flags[2],
    )
    before = store.get(trace_id)
    store.flush()
    after = store.get(trace_id)
    assert before is not None
    assert before == after
    assert same(before.payload, payload)
    assert same(before.embedding, embedding)
    assert (before.tags, before.source_id, before.parent_id) == (tuple(tags), source_id, "parent")
    assert (before.intensity, before.valence, before.confidence) == numbers
    assert (before.unresolved, before.consolidation_candidate) == flags[:2]
    assert before.reinforcement_count == flags[2]
    assert before.origin == "mesh_transfer"


def one(store: TraceStore, trace_id: str) -> Entry:
    entry = store.get(trace_id)
    assert entry is not None
    return entry


def test_a_new_entry_has_what_its_kind_says(store: TraceStore, clock: ManualClock) -> None:
    firmware = one(store, store.store(1, kind="firmware"))
    assert (firmware.strength, firmware.decay_rate, firmware.confidence) == (1.0, 0.0, 1.0)
    sensory = one(store, store.store(1, kind="sensory"))
    assert (sensory.strength, sensory.peak_strength, sensory.decay_rate) == (0.4, 0.4, 0.1)
    assert sensory.confidence == 0.5
    assert (sensory.tier, sensory.partition, sensory.tags) == ("hot", "default", ())
    assert sensory.created_at == sensory.last_reinforced == clock.wall_ns()
    assert sensory.last_decayed is None
    assert sensory.reinforcement_count == 0


def test_ids_are_fresh_or_given(store: TraceStore) -> None:
    assert store.store(1, kind="semantic") != store.store(1, kind="semantic")
    assert store.store(1, kind="semantic", trace_id="漢") == "漢"
    assert store.get("nobody") is None
    assert store.count() == 3


def test_fresh_ids_are_uuids_in_the_order_of_time(store: TraceStore, clock: ManualClock) -> None:
    ids = []
    for _ in range(100):
        clock.advance_s(0.001)
        ids.append(store.store(1, kind="semantic"))
    assert ids == sorted(ids)
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
    at_once = {store.store(1, kind="semantic") for _ in range(1_000)}
    assert len(at_once) == 1_000


def test_storing_again_changes_the_content_and_keeps_the_past(
    store: TraceStore, clock: ManualClock
) -> None:
    trace_id = store.store("old", kind="episodic", tags=["a"], trace_id="x")
    store.reinforce(trace_id, imprinting=True)
    before = one(store, trace_id)
    for flushed in (False, True):
        if flushed:
            store.flush()
        clock.advance_s(10)
        store.store("new", kind="episodic", tags=["b"], trace_id="x", confidence=0.9)
        after = one(store, trace_id)
        assert (after.payload, after.tags, after.confidence) == ("new", ("b",), 0.9)
        assert (after.strength, after.reinforcement_count) == (before.strength, 1)
        assert (after.created_at, after.last_reinforced) == (before.created_at,) * 2
    assert store.count() == 1


def test_another_kind_lifts_and_fades_from_here(store: TraceStore) -> None:
    store.store(1, kind="sensory", trace_id="x")
    store.decay_cycle(ticks=5)
    faded = one(store, "x").strength
    assert faded < 0.4
    store.store(1, kind="trust", trace_id="x")
    assert one(store, "x").strength == faded  # trust begins at 0.3, which is less
    store.store(1, kind="identity", trace_id="x")
    assert one(store, "x").strength == one(store, "x").peak_strength == 1.0


def test_another_intensity_changes_the_slope_not_the_strength(store: TraceStore) -> None:
    store.store(1, kind="sensory", trace_id="x")
    store.decay_cycle(ticks=5)
    before = one(store, "x").strength
    store.store(1, kind="sensory", trace_id="x", intensity=1.0)
    assert one(store, "x").strength == before
    store.decay_cycle(ticks=3)
    assert one(store, "x").strength == pytest.approx(before * 4 ** (-0.1 / 1.3))


def test_parents_and_children(store: TraceStore) -> None:
    for flush in (False, True):
        store.store(1, kind="semantic", trace_id="p")
        store.store(1, kind="semantic", trace_id="c2", parent_id="p")
        store.store(1, kind="semantic", trace_id="c1", parent_id="p")
        if flush:
            store.flush()
        assert one(store, "p").child_ids == ("c1", "c2")
        store.store(1, kind="semantic", trace_id="c2", parent_id=None)
        assert one(store, "p").child_ids == ("c1",)
        store.delete("p")
        assert one(store, "c1").parent_id is None
        store.flush()
        assert one(store, "c1").parent_id is None
        store.store(1, kind="semantic", trace_id="p")
        assert one(store, "p").child_ids == ()


class Strange:
    pass


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (math.nan, "NaN"),
        ([1, {"x": math.inf}], "JSON"),
        (Strange(), "Strange"),
        ({"a": {1, 2}}, "set"),
        ({"a": b"bytes inside"}, "bytes"),
        (circle(), "contains itself|Circular"),
        (nested(100_000), "deep"),
        (nested(300), "200 deep"),
        ("\ud800", "surrogate"),
        ({"x": ["\udfff"]}, "surrogate"),
        ({1: "int key"}, "key 1"),
        ({"a": [{None: 1}]}, r"payload\['a'\]\[0\]"),
        (10**5000, "JSON"),
        ("x" * 2_000, "2,002 bytes"),
        (b"x" * 2_000, "2,000 bytes"),
    ],
    ids=lambda value: repr(value)[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_refused_and_harms_no_other(
    stores: Stores, payload: Any, says: str
) -> None:
    store = stores(max_entry_bytes=1_000)
    store.store("before", kind="semantic", trace_id="a")
    with pytest.raises(EntryError, match=says) as raised:
        store.store(payload, kind="semantic")
    assert "\n" not in str(raised.value)
    store.store("after", kind="semantic", trace_id="b")
    assert store.flush().entries == 2
    assert store.count() == 2


def test_tuples_become_lists(store: TraceStore) -> None:
    assert one(store, store.store((1, (2,)), kind="semantic")).payload == [1, [2]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "no"}, "firmware, identity"),
        ({"kind": 3}, "unknown kind"),
        ({"origin": "no"}, "direct_experience, mesh_transfer"),
        ({"confidence": 1.5}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"tags": "text"}, "list of tags"),
        ({"tags": [1]}, "no text"),
        ({"tags": 5}, "tags"),
        ({"tags": ["\ud800"]}, "surrogate"),
        ({"trace_id": ""}, "trace_id"),
        ({"trace_id": "a\0"}, "NUL"),
        ({"trace_id": "x" * 5_000}, "trace_id"),
        ({"trace_id": "x", "parent_id": "x"}, "own parent"),
        ({"source_id": 5}, "source_id"),
        ({"embedding": [1, math.nan]}, "embedding"),
        ({"embedding": ["a"]}, "embedding"),
        ({"embedding": [0.0] * 70_000}, "dimensions"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_arguments_that_cannot_be_used_are_refused(
    store: TraceStore, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        store.store(1, **{"kind": "semantic", **given})
    assert store.flush().entries == 0


def test_feelings_take_what_people_and_models_say(store: TraceStore) -> None:
    entry = one(
        store,
        store.store(1, kind="semantic", intensity='{"level": 0.7}', valence={"sentiment": "-2"}),
    )
    assert (entry.intensity, entry.valence) == (0.7, -1.0)
