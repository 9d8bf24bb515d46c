"""Ratio, budget and caller: decided at the root, held for the trace, counted by reason."""

from __future__ import annotations

from typing import Any

import pytest

from afterglow.record.sampler import Budget, Sampler


def test_a_decision_holds_for_the_whole_trace(make_recording: Any) -> None:
    recording = make_recording(sample_ratio=0.5)
    tracer = recording.tracer
    for number in range(400):
        with tracer.span("root", number=number), tracer.span("inner"), tracer.span("leaf"):
            pass
    spans = recording.spans()
    roots = [span for span in spans if span.is_root]
    assert 100 < len(roots) < 300
    assert len(spans) == 3 * len(roots)
    ids = {span.span_id for span in spans}
    assert all(span.is_root or span.parent_span_id in ids for span in spans)
    assert tracer.ledger()["not_recorded"] == {"sampled_out": 3 * (400 - len(roots))}


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 0), (1.0, 20)])
def test_none_and_all(make_recording: Any, ratio: float, kept: int) -> None:
    recording = make_recording(sample_ratio=ratio)
    for _ in range(20):
        recording.tracer.start_span("work").end()
    assert len(recording.spans()) == kept


def test_the_ratio_is_opentelemetrys() -> None:
    half = Sampler(0.5, None)
    below, above = (1 << 63) - 1, 1 << 63
    assert half.refusal(below.to_bytes(16, "big")) is None
    assert half.refusal(above.to_bytes(16, "big")) == "sampled_out"
    assert half.refusal(((1 << 127) | below).to_bytes(16, "big")) is None


def test_a_budget_refuses_and_recovers() -> None:
    begun = 0
    budget = Budget(100, lambda: begun, 0)
    allowed = 0
    for _ in range(1_000):
        if budget.allow(0):
            allowed += 1
            begun += 1
    assert allowed == 100
    assert not budget.allow(5_000_000)  # half a span's worth later
    assert budget.allow(20_000_000)
    begun += 1_000_000  # one huge trace overdraws it ...
    assert not budget.allow(1_000_000_000)
    assert budget.allow(2_100_000_000)  # ... and is forgiven within a second


def test_the_budget_counts_spans_not_traces(make_recording: Any) -> None:
    recording = make_recording(max_spans_per_second=50)
    tracer = recording.tracer
    for _ in range(100):
        with tracer.span("root"):
            for _ in range(9):
                with tracer.span("inner"):
                    pass
    spans = recording.spans()
    # One second's worth at once, the trace that crosses the line, and what a slow machine earns.
    assert 50 <= len(spans) <= 200
    assert len(spans) % 10 == 0
    books = tracer.ledger()
    assert books["not_recorded"] == {"budget": 1_000 - len(spans)}
    assert books["recorded"] == len(spans)
