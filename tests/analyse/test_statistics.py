from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.analyse import statistics as module
from afterglow.analyse.statistics import Statistics, bucket_value, buckets, statistics_of
from afterglow.model.span import Span

durations = st.integers(0, 1 << 62) | st.integers(0, 2_000)


def nearest_rank(values: list[int], share: float) -> int:
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


@given(st.lists(durations, min_size=1, max_size=300))
def test_sums_are_exact_and_percentiles_within_one_percent(values: list[int]) -> None:
    statistics = Statistics()
    half = len(values) // 2
    statistics.add("x", values[:half], self_ns=3, errors=1)
    statistics.add("x", values[half:], self_ns=4, errors=0)
    (found,) = statistics.result()
    assert (found.count, found.total_ns) == (len(values), sum(values))
    assert (found.min_ns, found.max_ns) == (min(values), max(values))
    assert (found.self_ns, found.errors) == (7, 1)
    for share, got in ((0.5, found.p50_ns), (0.95, found.p95_ns), (0.99, found.p99_ns)):
        exact = nearest_rank(values, share)
        assert abs(got - exact) <= exact / 100


@given(st.integers(0, (1 << 63) - 1))
def test_a_bucket_is_narrow(value: int) -> None:
    (bucket,) = buckets([value])
    assert abs(bucket_value(bucket) - value) <= value * 0.004
    if value < 256:
        assert int(bucket_value(bucket)) == value


@given(st.lists(st.lists(st.integers(0, 10_000), max_size=40), min_size=1, max_size=20))
def test_portions_do_not_matter(portions: list[list[int]]) -> None:
    whole, parts = Statistics(), Statistics()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WAITING_VALUES", 7)
        for portion in portions:
            parts.add("x", portion, self_ns=0, errors=0)
    whole.add("x", [value for portion in portions for value in portion], self_ns=0, errors=0)
    assert whole.result() == parts.result()


def test_no_more_waits_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAITING_VALUES", 10)
    statistics = Statistics()
    for i in range(100):
        statistics.add(f"n{i % 5}", [1, 2, 3], self_ns=0, errors=0)
        assert sum(len(n.waiting) for n in statistics._names.values()) <= 10


def test_most_self_time_first_and_unknown_stays_unknown() -> None:
    statistics = Statistics()
    statistics.add("a", [10], self_ns=1, errors=0)
    statistics.add("b", [5], self_ns=2, errors=0)
    statistics.add("c", [7], self_ns=None, errors=0)
    statistics.add("c", [1], self_ns=5, errors=0)
    statistics.add_interrupted("d", 2)
    found = statistics.result()
    assert [s.name for s in found] == ["c", "b", "a", "d"]
    assert (found[0].self_known, found[0].self_ns) == (False, 0)
    assert (found[3].count, found[3].interrupted, found[3].p99_ns) == (0, 2, 0)
    assert (found[3].mean_ns, found[3].error_rate) == (0.0, 0.0)


def test_statistics_of_spans() -> None:
    def span(name: str, end: int | None, status: str = "ok") -> Span:
        return Span(trace_id=1, span_id=1, name=name, start_ns=0, end_ns=end, status=status)  # type: ignore[arg-type]

    found = statistics_of([(span("a", 4, "error"), 4), (span("a", 6), 1), (span("a", None), None)])
    assert [(s.name, s.count, s.self_ns, s.errors, s.interrupted) for s in found] == [
        ("a", 2, 5, 1, 1)
    ]
