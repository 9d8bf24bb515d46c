"""Trees against the oracle, however entries come; and each rule by itself."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.assembly import (
    NO_SPAN,
    Entry,
    Piece,
    Plan,
    SegmentPlan,
    Tree,
    index_bucket,
    keys_of,
    part_message_id,
    plan,
    remember,
    subsegments,
)
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan
from tests.contracts.forests import spans
from tests.contracts.segment_oracle import Held, counted, cut, segments

S = 10**9
TRACE = ("shop", bytes([1] * 16))
CONFIG = BufferConfig(root_timeout_s=10, timeout_s=60, max_open_s=600, max_segment_bytes=1024)

A, B, C, D, E = (bytes(7) + bytes([n]) for n in (1, 2, 3, 4, 5))


def span(
    span_id: bytes, parent: bytes | None, marked: bool = False, payload: bytes = b"x"
) -> BufferedSpan:
    return BufferedSpan(*TRACE, span_id, parent, marked, payload)


def entry(time_s: float, *given: BufferedSpan) -> Entry:
    found, dropped = subsegments(given, round(time_s * S), CONFIG)
    assert dropped == {}
    return found[0].entry


def ids(found: SegmentPlan, entries: Sequence[Entry]) -> list[bytes]:
    return [
        entries[number].span_ids[8 * at : 8 * at + 8]
        for part in found.parts
        for number, positions in part.pieces
        for at in positions
    ]


def found(what: Plan, entries: Sequence[Entry]) -> dict[bytes, list[bytes]]:
    return {segment.root_span_id: ids(segment, entries) for segment in what.segments}


def ask(now_s: float, *entries: Entry, flushed: dict[int, int] | None = None) -> Plan:
    return plan(TRACE, entries, round(now_s * S), CONFIG, flushed or {})


class Twice:
    """A trace in a tree and, beside it, as the oracle sees it."""

    def __init__(self) -> None:
        self.flushed: dict[bytes, bytes] = {}
        self.remembered: dict[int, int] = {}
        self.tree = Tree(*TRACE, CONFIG, self.remembered)
        self.entries: list[Entry] = []
        self.batches: list[list[BufferedSpan]] = []
        self.arrived: list[Held] = []
        self.waiting: list[Entry] = []

    def add(self, batch: list[BufferedSpan], now_ns: int) -> None:
        for subsegment in subsegments(batch, now_ns, CONFIG)[0]:
            self.entries.append(subsegment.entry)
            self.waiting.append(subsegment.entry)
            self.batches.append(batch)
            self.arrived += [Held(one, now_ns) for one in batch]

    def visit(self, now_ns: int) -> None:
        self.tree.extend(self.waiting)
        self.waiting = []
        what = self.tree.plan(now_ns)
        before = dict(self.flushed)
        expected = segments(self.arrived, self.flushed, CONFIG)
        n_counted = sum(len(segment.spans) for segment in expected)
        due = [segment for segment in expected if segment.due_ns <= now_ns]
        stay = [segment for segment in expected if segment.due_ns > now_ns]
        assert what.next_due_ns == min((segment.due_ns for segment in stay), default=None)
        assert what.left == n_counted - sum(len(segment.spans) for segment in due)
        assert sum(len(p.positions) for p in what.duplicates) == len(self.arrived) - n_counted
        assert len(what.segments) == len(due)
        for segment, right in zip(what.segments, due, strict=True):
            assert (segment.root_span_id, segment.addendum) == (right.root, right.addendum)
            for part, its_spans in zip(segment.parts, cut(right.spans, 1024), strict=True):
                its_ids = [one.span_id for one in its_spans]
                assert [
                    self.batches[number][at]
                    for number, positions in part.pieces
                    for at in positions
                ] == its_spans
                assert part.n_spans == len(its_spans)
                assert part.payload_bytes == sum(len(one.payload) for one in its_spans)
                assert part.message_id == part_message_id(*TRACE, right.root, part.number, its_ids)
            assert [part.number for part in segment.parts] == list(range(len(segment.parts)))
            assert [p.is_last for p in segment.parts] == [
                p is segment.parts[-1] for p in segment.parts
            ]
            for one in right.spans:
                self.flushed[one.span.span_id] = right.root
                remember(self.remembered, right.root, one.span.span_id)
            self.tree.remove(piece for part in segment.parts for piece in part.pieces)
        staying = {one.span.span_id for segment in stay for one in segment.spans}
        self.arrived = [one for one in counted(self.arrived, before) if one.span.span_id in staying]
        assert len(self.tree) == len(self.arrived)


@given(
    st.lists(
        st.one_of(
            st.lists(spans(traces=1), min_size=1, max_size=10),
            st.sampled_from([0, 1, 9, 10, 50, 59, 60, 600]),
        ),
        max_size=14,
    )
)
@settings(max_examples=200, deadline=None)
def test_a_tree_finds_what_the_oracle_finds_step_by_step(
    steps: list[list[BufferedSpan] | int],
) -> None:
    trace, now_ns = Twice(), 10**18
    for step in [*steps, 700, 700]:
        if isinstance(step, int):
            now_ns += step * S
            trace.visit(now_ns)
        else:
            now_ns += 1
            trace.add(step, now_ns)
    assert trace.arrived == []


# --- each rule by itself ---


def test_two_orphans_of_one_absent_parent_are_two_segments() -> None:
    one = entry(0, span(B, A), span(C, A))
    assert found(ask(60, one), [one]) == {B: [B], C: [C]}


def test_a_marked_root_ends_the_segment_above_it() -> None:
    one = entry(0, span(A, None), span(B, A, marked=True), span(C, B))
    assert found(ask(10, one), [one]) == {A: [A], B: [B, C]}


def test_a_marked_root_under_one_that_went_out_is_no_addendum() -> None:
    flushed: dict[int, int] = {}
    remember(flushed, A, A + B)
    one = entry(0, span(C, B, marked=True), span(D, B))
    what = ask(10, one, flushed=flushed)
    assert found(what, [one]) == {C: [C], A: [D]}
    assert [segment.addendum for segment in what.segments] == [False, True]


def test_a_span_that_is_its_own_parent_is_a_root() -> None:
    one = entry(0, span(A, A), span(B, A))
    assert found(ask(10, one), [one]) == {A: [A, B]}


def test_a_ring_has_its_smallest_span_as_root_and_waits_like_an_orphan() -> None:
    one, two = entry(0, span(C, B), span(D, C)), entry(0, span(B, C), span(E, D))
    for both in ([one, two], [two, one]):
        assert ask(60 - 1e-6, *both).segments == []
        assert {root: set(its) for root, its in found(ask(60, *both), both).items()} == {
            B: {B, C, D, E}
        }


def test_a_ring_that_closes_later_has_its_smallest_span_as_root() -> None:
    entries = [entry(0, span(D, C)), entry(1, span(C, D))]
    tree = Tree(*TRACE, CONFIG, {})
    for one in entries:
        tree.extend([one])
    assert found(tree.plan(61 * S), entries) == {C: [D, C]}


def test_the_smallest_is_the_smallest_as_bytes_compare() -> None:
    low, high = bytes([1, 0, 0, 0, 0, 0, 0, 9]), bytes([9, 0, 0, 0, 0, 0, 0, 1])
    one = entry(0, span(high, low), span(low, high))
    assert list(found(ask(60, one), [one])) == [low]


def test_two_addenda_of_one_root_are_one_segment() -> None:
    flushed: dict[int, int] = {}
    remember(flushed, A, A + B + C)
    one, two = entry(0, span(D, B)), entry(1, span(E, C))
    what = ask(11, one, two, flushed=flushed)
    assert found(what, [one, two]) == {A: [D, E]}


def test_of_two_spans_of_one_id_the_first_counts() -> None:
    one, two = entry(0, span(A, None), span(B, A)), entry(5, span(B, E), span(A, None))
    what = ask(10, one, two)
    assert found(what, [one, two]) == {A: [A, B]}
    assert what.duplicates == [Piece(1, range(2))]
    assert (what.left, what.next_due_ns) == (0, None)


def test_a_span_twice_in_one_entry_counts_once() -> None:
    one = entry(0, span(A, None), span(A, B), span(B, A), span(B, None))
    what = ask(10, one)
    assert found(what, [one]) == {A: [A, B]}
    assert what.duplicates == [Piece(0, [1, 3])]


def test_what_has_left_an_entry_is_neither_span_nor_duplicate() -> None:
    one = entry(0, span(A, None), span(B, A), span(C, None))._replace(left=[1, 2])
    flushed: dict[int, int] = {}
    remember(flushed, A, A)
    what = ask(10, one, flushed=flushed)
    assert found(what, [one]) == {A: [B], C: [C]}
    assert what.duplicates == []
    assert what.segments[0].addendum


def test_times_that_go_backwards_change_no_rule() -> None:
    late, early = entry(5, span(A, None)), entry(3, span(B, A))
    assert ask(15 - 1e-6, late, early).segments == []
    assert len(ask(15, late, early).segments) == 1
    assert len(ask(603, late, early, entry(600, span(C, A))).segments) == 1
    assert ask(603 - 1e-6, late, early, entry(600, span(C, A))).segments == []


@pytest.mark.parametrize(
    ("orphans_s", "parent_s", "due_s"),
    [((0, 300), 595, 600), ((3, 20), 5, 30)],
    ids=["open since the orphan came", "an addition as late as the orphan"],
)
def test_an_orphan_brings_its_times_to_the_parent_that_comes_later(
    orphans_s: tuple[float, float], parent_s: float, due_s: float
) -> None:
    """Its times count for the segment that it joins, as if all had come at once."""
    entries = [
        entry(orphans_s[0], span(B, A)),
        entry(orphans_s[1], span(C, B)),
        entry(parent_s, span(A, None)),
    ]
    tree = Tree(*TRACE, CONFIG, {})
    for one in entries:
        tree.extend([one])
    assert tree.plan(round((due_s - 1e-6) * S)).segments == []
    assert tree.plan(due_s * S).segments == ask(due_s, *entries).segments != []


def test_whole_entries_are_ranges() -> None:
    one, two = entry(0, span(A, None), span(B, A)), entry(0, span(C, A), span(D, None))
    what = ask(10, one, two)
    assert what.segments[0].parts[0].pieces == [Piece(0, range(2)), Piece(1, [0])]


def test_message_ids_say_what_is_in_a_part() -> None:
    first = part_message_id("shop", TRACE[1], A, 0, [A, B])
    assert len(first) == 32
    assert int(first, 16)
    assert part_message_id("shop", TRACE[1], A, 0, [A + B]) == first
    others = [
        part_message_id("mail", TRACE[1], A, 0, [A, B]),
        part_message_id("shop", bytes(15) + b"x", A, 0, [A, B]),
        part_message_id("shop", TRACE[1], B, 0, [A, B]),
        part_message_id("shop", TRACE[1], A, 1, [A, B]),
        part_message_id("shop", TRACE[1], A, 0, [B, A]),
        part_message_id("\ud800", TRACE[1], A, 0, [A, B]),
        part_message_id("\ud801", TRACE[1], A, 0, [A, B]),
        part_message_id("shop" + TRACE[1].decode()[:1], TRACE[1][1:], A, 0, [A, B]),
    ]
    assert len({first, *others}) == 9


def test_ids_as_numbers_keep_no_span_apart() -> None:
    assert keys_of(NO_SPAN) == [0]
    assert len(set(keys_of(A + B + A))) == 2


def test_has_root() -> None:
    assert entry(0, span(B, A), span(A, None)).has_root
    assert entry(0, span(B, A, marked=True)).has_root
    assert entry(0, span(B, B)).has_root
    assert not entry(0, span(B, A), span(A, C)).has_root


def test_an_index_bucket_is_the_same_for_ever() -> None:
    """What is in Redis was put there by it."""
    assert [index_bucket("shop", bytes([n] * 16)) for n in range(4)] == [13, 47, 8, 42]
    assert {index_bucket("p", n.to_bytes(16, "big")) for n in range(2_000)} == set(range(64))


def calls(work: Callable[[], object]) -> int:
    """How many functions are called while it works."""
    n = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal n
        n += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return n


def tree_of(n: int, shape: str) -> list[Entry]:
    numbers = [k.to_bytes(8, "big") for k in range(1, n + 1)]
    if shape == "chain":
        given = [span(one, up) for one, up in zip(numbers, [None, *numbers], strict=False)][::-1]
    elif shape == "ring":
        given = [span(one, numbers[k - 1]) for k, one in enumerate(numbers)]
    elif shape == "roots":
        given = [span(one, None) for one in numbers]
    else:
        given = [span(one, numbers[k // 7] if k else None) for k, one in enumerate(numbers)]
        random.Random(3).shuffle(given)
    return [entry(at / 1e6, *given[at : at + 50]) for at in range(0, n, 50)]


@pytest.mark.parametrize("shape", ["chain", "ring", "roots", "shuffled"])
@pytest.mark.parametrize("at_once", [True, False])
def test_twice_the_spans_cost_twice_the_steps(shape: str, at_once: bool) -> None:
    costs = []
    for n in (2_000, 4_000):
        entries = tree_of(n, shape)

        def work(entries: list[Entry] = entries) -> None:
            tree = Tree(*TRACE, CONFIG, {})
            for group in [entries] if at_once else [[one] for one in entries]:
                tree.extend(group)
                tree.plan(0)
            assert sum(len(s.parts[0].pieces) > 0 for s in tree.plan(700 * S).segments) > 0

        costs.append(calls(work))
    assert costs[1] < 2.3 * costs[0]
