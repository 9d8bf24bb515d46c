from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from afterglow.analyse.cover import covered_ns
from afterglow.analyse.trees import build_trees
from afterglow.model.span import Span

intervals = st.tuples(st.integers(-5, 30), st.integers(-5, 30))


@given(st.lists(intervals, max_size=12), st.integers(0, 10), st.integers(0, 25))
def test_the_union_is_counted_tick_by_tick(
    found: list[tuple[int, int]], start: int, end: int
) -> None:
    ticks = sum(any(s <= tick < e for s, e in found) for tick in range(start, end))
    assert covered_ns(sorted(found), start, end) == ticks


def span(
    span_id: int, parent: int = 0, start: int = 0, end: int | None = 10, trace: int = 1
) -> Span:
    return Span(trace_id=trace, span_id=span_id, parent_span_id=parent, name=str(span_id),
                start_ns=start, end_ns=end)  # fmt: skip


def ids(spans: list[Span]) -> list[list[tuple[int, int]]]:
    return [[(d, n.span.span_id) for d, n in root.walk()] for root in build_trees(spans)]


def test_slowest_first_and_children_by_start() -> None:
    found = ids([span(4, 2, 7), span(3, 2, 5), span(2, 0, 0, 90), span(5, 0, 0, 100), span(6, 99)])
    assert found == [[(0, 5)], [(0, 2), (1, 3), (1, 4)], [(0, 6)]]


def test_the_same_id_in_another_trace_is_another_span() -> None:
    found = ids([span(1), span(2, 1), span(1, trace=2, end=5), span(3, 1, trace=2)])
    assert found == [[(0, 1), (1, 2)], [(0, 1), (1, 3)]]


def test_interrupted_spans_are_in_it() -> None:
    (root,) = build_trees([span(1, 0, 0, None), span(2, 1, 0, 4), span(3, 1, 2, None)])
    assert root.self_ns is None
    assert [(n.span.span_id, n.self_ns) for n in root.children] == [(2, 4), (3, None)]


def test_circles_are_cut_where_they_begin() -> None:
    found = ids([span(1, 2, 5), span(2, 1, 3), span(7, 7), span(8, 1)])
    flat = sorted(span_id for tree in found for _, span_id in tree)
    assert flat == [1, 2, 7, 8]
    assert found.count([(0, 7)]) == 1


def test_two_spans_of_one_id_are_both_there() -> None:
    found = ids([span(1), span(1), span(2, 1)])
    assert sorted(map(len, found)) == [1, 2]


def test_a_tree_of_any_depth() -> None:
    n = 50_000
    (root,) = build_trees([span(i, i - 1, i, 3 * n - i) for i in range(1, n + 1)])
    assert sum(1 for _ in root.walk()) == n
    assert repr(root) == "SpanNode('1', children=1)"
    del root
    gc.collect()


@given(st.data())
def test_every_span_is_in_one_tree(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    spans = [
        span(i, data.draw(st.integers(0, count + 1)), data.draw(st.integers(0, 9)))
        for i in range(1, count + 1)
    ]
    found = [span_id for tree in ids(data.draw(st.permutations(spans))) for _, span_id in tree]
    assert sorted(found) == list(range(1, count + 1))
