"""What a sampler leaves out: the trace goes on, nothing is written, and everything is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from afterglow.otel import TracerProvider, sampling
from afterglow.record.context import current
from afterglow.testing import ListSink
from tests.conftest import Recording
from tests.otel.conftest import Provided

Make = Callable[..., Provided]

NOTHING = {
    "off": sampling.AlwaysOff,
    "ratio": lambda: sampling.RatioBased(0.0),
    "parent-off": lambda: sampling.ParentBased(sampling.AlwaysOff()),
    "parent-ratio": lambda: sampling.ParentBased(sampling.RatioBased(0.0)),
    "sdk-off": lambda: sdk.ALWAYS_OFF,
    "sdk-ratio": lambda: sdk.TraceIdRatioBased(0.0),
    "sdk-parent-ratio": lambda: sdk.ParentBasedTraceIdRatio(0.0),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_trace_that_is_left_out(make_provided: Make, kind: str) -> None:
    provided = make_provided(sampler=NOTHING[kind]())
    tracer = provided.tracer
    held = context.attach(baggage.set_baggage("user", "7"))
    try:
        with tracer.start_as_current_span("root", attributes={"a": 1}) as root:
            assert trace.get_current_span() is root
            assert isinstance(root, NonRecordingSpan) and not root.is_recording()
            with tracer.start_as_current_span("child") as child:
                assert baggage.get_baggage("user") == "7"
                by_hand = tracer.start_span("by hand")
                with by_hand as same:
                    assert same is by_hand
                    assert trace.get_current_span() is child
                headers: dict[str, str] = {}
                propagate.inject(headers)
                inside = context.set_value("more", 1)
                assert trace.get_current_span(inside) is child
            assert trace.get_current_span() is root
    finally:
        context.detach(held)
    assert trace.get_current_span() is trace.INVALID_SPAN
    contexts = [s.get_span_context() for s in (root, child, by_hand)]
    assert len({c.trace_id for c in contexts}) == 1
    assert len({c.span_id for c in contexts}) == 3
    assert not any(c.trace_flags.sampled for c in contexts)
    assert all(c.is_valid and not c.is_remote for c in contexts)
    assert headers["traceparent"] == f"00-{contexts[1].trace_id:032x}-{contexts[1].span_id:016x}-02"
    assert provided.stored() == []
    assert provided.provider.ledger()["not_recorded"] == {"sampled_out": 1, "parent": 2}


@pytest.mark.parametrize("kind", NOTHING)
def test_functions_and_coroutines(make_provided: Make, kind: str) -> None:
    tracer = make_provided(sampler=NOTHING[kind]()).tracer

    @tracer.start_as_current_span("f")
    def function() -> Any:
        return trace.get_current_span().get_span_context()

    @tracer.start_as_current_span("g")
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return trace.get_current_span().get_span_context()

    first, second, third = function(), function(), asyncio.run(coroutine())
    assert len({c.trace_id for c in (first, second, third)}) == 3
    assert all(c.is_valid for c in (first, second, third))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.booleans(), st.booleans())
def test_a_ratio_decides_as_the_sampler_would(ratio: float, by_parent: bool, theirs: bool) -> None:
    of = sdk if theirs else sampling
    asked: Any = sdk.TraceIdRatioBased(ratio) if theirs else sampling.RatioBased(ratio)
    sink = ListSink()
    provider = TracerProvider(
        of.ParentBased(asked) if by_parent else asked, shutdown_on_exit=False, database=sink
    )
    tracer = provider.get_tracer("x")
    seen = []
    for _ in range(20):
        with (
            tracer.start_as_current_span("root") as root,
            tracer.start_as_current_span("child") as child,
        ):
            seen.append((root.get_span_context(), child.get_span_context()))
        span = tracer.start_span("by hand")
        seen.append((span.get_span_context(), span.get_span_context()))
        span.end()
    provider.shutdown()
    for root, child in seen:
        wanted = asked.should_sample(None, root.trace_id, "root").decision.is_sampled()
        assert root.trace_id == child.trace_id
        assert (root.trace_flags.sampled, child.trace_flags.sampled) == (wanted, wanted)
    made = {(s.trace_id, s.span_id) for s in sink.spans}
    assert made == {(c.trace_id, c.span_id) for pair in seen for c in pair if c.trace_flags.sampled}


def test_below_another_rule_the_sampler_is_asked(make_provided: Make) -> None:
    nothing = make_provided(sampler=sampling.AlwaysOff()).tracer
    everything = make_provided(sampler=sampling.RatioBased(1.0))
    with (
        nothing.start_as_current_span("out") as out,
        everything.tracer.start_as_current_span("in") as inside,
    ):
        assert inside.get_span_context().trace_id == out.get_span_context().trace_id
        with nothing.start_as_current_span("out again") as again:
            assert not again.is_recording()
    (span,) = everything.stored()
    assert (span.name, span.parent_span_id) == ("in", out.get_span_context().span_id)


def test_a_class_made_from_a_sampler_is_asked(make_provided: Make) -> None:
    class Picky(sdk.ParentBased):
        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, *a: Any, **k: Any
        ) -> Any:
            keep = sdk.Decision.RECORD_AND_SAMPLE if name == "keep" else sdk.Decision.DROP
            return sdk.SamplingResult(keep)

    provided = make_provided(sampler=Picky(sdk.ALWAYS_ON))
    with (
        provided.tracer.start_as_current_span("drop"),
        provided.tracer.start_as_current_span("keep"),
    ):
        pass
    assert [s.name for s in provided.stored()] == ["keep"]


def test_a_class_made_from_a_sampler_is_asked_within_another(make_provided: Make) -> None:
    class None_(sdk.StaticSampler):
        def should_sample(self, *a: Any, **k: Any) -> Any:
            return sdk.SamplingResult(sdk.Decision.DROP)

    root = None_(sdk.Decision.RECORD_AND_SAMPLE)
    assert root.get_description() == "AlwaysOnSampler"
    inner = make_provided(sampler=sdk.ParentBased(root))
    with inner.tracer.start_as_current_span("drop"):
        pass
    assert inner.stored() == []


def test_record_only_is_for_processors_alone(make_provided: Make) -> None:
    only = sdk.StaticSampler(sdk.Decision.RECORD_ONLY)
    assert only.get_description() == "AlwaysOnSampler"
    provided = make_provided(sampler=only)
    with provided.tracer.start_as_current_span("x") as span:
        assert span.is_recording()
    provided.tracer.start_span("y").end()
    assert provided.stored() == []


def test_a_callers_trace_that_is_left_out(make_provided: Make) -> None:
    provided = make_provided(sampler=sampling.ParentBased(sampling.AlwaysOn()))
    caller = SpanContext(7, 9, True, TraceFlags(0))
    start = provided.tracer.start_as_current_span
    with trace.use_span(NonRecordingSpan(caller)), start("a") as a, start("b") as b:
        pass
    assert a.get_span_context().trace_id == b.get_span_context().trace_id == 7
    assert provided.stored() == []
    assert provided.provider.ledger()["not_recorded"] == {"parent": 2}


def test_below_a_span_of_our_own_tracer(make_provided: Make, recording: Recording) -> None:
    tracer = make_provided(sampler=sampling.AlwaysOff()).tracer
    with recording.tracer.span("ours") as ours:
        with tracer.start_as_current_span("out") as out:
            assert out.get_span_context().trace_id == ours.trace_id
        assert current.get() is ours


def test_a_trace_thousands_deep(make_provided: Make) -> None:
    class Asked(sdk.ParentBased):
        pass

    tracer = make_provided(sampler=Asked(sdk.ALWAYS_ON)).tracer

    token = context.attach(context.set_value("something", 1))
    spans = []
    for _ in range(2_000):
        span = tracer.start_as_current_span("x")
        span.__enter__()
        spans.append(span)
    assert context.get_value("something") == 1
    for span in reversed(spans):
        span.__exit__(None, None, None)
    context.detach(token)
