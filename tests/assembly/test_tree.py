"""Trees against the oracle, however entries come; and each rule by itself."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.assembly import (
    Entry,
    Plan,
    SegmentPlan,
    Tree,
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
@settings(max_examples=400, deadline=None)
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
