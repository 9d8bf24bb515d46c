"""The workloads of the buffer's benchmarks are what their names say, and always the same."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.buffer.workloads import Workload, workloads

N = 3_000
ALL = workloads(N)


@pytest.mark.parametrize("workload", ALL, ids=lambda workload: workload.name)
def test_whatever_the_batches_the_spans_are_the_same(workload: Workload) -> None:
    spans = list(workload.spans())
    again = [span for batch in workload.batches(700) for span in batch]
    assert again == spans
    assert len(spans) == len({(span.trace_id, span.span_id) for span in spans}) == N
    assert {len(batch) for batch in workload.batches(700)} == {700, N % 700}


@pytest.mark.parametrize(
    ("workload", "size"), list(zip(ALL, [20, 20, 500, N, 1_000], strict=True)), ids=str
)
def test_every_trace_is_one_whole_tree(workload: Workload, size: int) -> None:
    spans = list(workload.spans())
    ids = {(span.trace_id, span.span_id) for span in spans}
    assert set(Counter(span.trace_id for span in spans).values()) == {size}
    roots = [span.trace_id for span in spans if span.parent_span_id is None]
    assert len(roots) == len(set(roots)) == N // size
    assert all((s.trace_id, s.parent_span_id) in ids for s in spans if s.parent_span_id)


def test_shuffled_brings_few_spans_of_a_trace_at_once() -> None:
    _, shuffled, *_ = workloads(11_000)
    traces = [len({span.trace_id for span in batch}) for batch in shuffled.batches(1_000)]
    assert 3.2 < 1_000 / (sum(traces) / len(traces)) < 4.2


def test_chains_come_leaves_first() -> None:
    first = [span for _, span in zip(range(1_000), ALL[4].spans(), strict=False)]
    assert [s.parent_span_id for s in first] == [s.span_id for s in first[1:]] + [None]


def test_payloads_are_about_a_kilobyte() -> None:
    sizes = [len(span.payload) for span in ALL[0].spans()]
    assert 950 < sum(sizes) / len(sizes) < 1_150
