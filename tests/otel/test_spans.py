"""What a program sees of its spans, and what the writer gets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    use_span,
)

import afterglow
from tests.otel.conftest import Provided


def test_a_span_is_current_and_children_follow_it(provided: Provided) -> None:
    tracer = provided.tracer
    with tracer.start_as_current_span("parent") as parent:
        assert trace.get_current_span() is parent
        child = tracer.start_span("child")
        assert child.parent == parent.get_span_context()
        child.end()
    assert trace.get_current_span() is trace.INVALID_SPAN
    stored = provided.by_name()
    assert stored["child"].parent_span_id == stored["parent"].span_id
    assert stored["child"].trace_id == stored["parent"].trace_id == parent.context.trace_id
    assert (stored["child"].scope, stored["child"].scope_version) == ("tests", "1.0")


def test_baggage_is_seen_under_a_span_and_kept_when_set_there(provided: Provided) -> None:
    token = context.attach(baggage.set_baggage("who", "me"))
    try:
        with provided.tracer.start_as_current_span("outer") as outer:
            assert baggage.get_baggage("who") == "me"
            inner = context.attach(baggage.set_baggage("more", "yes"))
            assert trace.get_current_span() is outer
            with provided.tracer.start_as_current_span("inner"):
                assert baggage.get_all() == {"who": "me", "more": "yes"}
            context.detach(inner)
    finally:
        context.detach(token)
    stored = provided.by_name()
    assert stored["inner"].parent_span_id == stored["outer"].span_id


def test_an_ended_span_that_is_still_current_keeps_the_baggage(provided: Provided) -> None:
    context_of_task = contextvars.Context()
    token = context.attach(baggage.set_baggage("who", "me"))
    with provided.tracer.start_as_current_span("outer"):
        context_of_task = contextvars.copy_context()
    context.detach(token)
    assert context_of_task.run(baggage.get_baggage, "who") == "me"


def test_propagators_carry_it_out_and_in(provided: Provided) -> None:
    with provided.tracer.start_as_current_span("client", kind=SpanKind.CLIENT) as client:
        headers: dict[str, str] = {}
        propagate.inject(headers)
    assert headers["traceparent"].split("-")[1] == f"{client.context.trace_id:032x}"
    remote = propagate.extract(headers)
    with provided.tracer.start_as_current_span("server", remote, SpanKind.SERVER) as server:
        assert server.parent is not None and server.parent.is_remote
    stored = provided.by_name()
    assert stored["server"].parent_span_id == stored["client"].span_id
    assert (stored["server"].remote_parent, stored["client"].remote_parent) == (True, False)
    assert (stored["server"].kind, stored["client"].kind) == ("server", "client")


def test_native_spans_and_these_are_one_tree(provided: Provided, tmp_path: Any) -> None:
    with afterglow.Tracer(tmp_path / "native.db") as native, native.span("around") as around:
        with provided.tracer.start_as_current_span("inside") as inside:
            assert inside.parent_id == around.span_id
        assert inside.trace_id == around.trace_id


def test_as_decorator_each_call_has_a_span(provided: Provided) -> None:
    @provided.tracer.start_as_current_span("called", attributes={"n": 1})
    def function(value: int) -> int:
        return value

    @provided.tracer.start_as_current_span("awaited")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return trace.get_current_span().name  # type: ignore[attr-defined]

    assert [function(1), function(2)] == [1, 2]
    assert asyncio.run(coroutine()) == "awaited"
    names = [span.name for span in provided.stored()]
    assert sorted(names) == ["awaited", "called", "called"]
    assert all(s.attributes == {"n": 1} for s in provided.stored() if s.name == "called")


def test_an_exception_is_recorded_and_goes_on(provided: Provided) -> None:
    with pytest.raises(ValueError, match="no"), provided.tracer.start_as_current_span("bad"):
        raise ValueError("no")
    (span,) = provided.stored()
    assert (span.status, span.status_description) == ("error", "ValueError: no")
    assert span.events[0].attributes["exception.type"] == "ValueError"
    assert 'raise ValueError("no")' in span.events[0].attributes["exception.stacktrace"]


def test_control_flow_is_no_failure(provided: Provided) -> None:
    with pytest.raises(KeyboardInterrupt), provided.tracer.start_as_current_span("stopped"):
        raise KeyboardInterrupt
    (span,) = provided.stored()
    assert (span.status, span.events) == ("unset", ())


def test_what_comes_after_the_end_is_ignored_and_said(
    provided: Provided, caplog: pytest.LogCaptureFixture
) -> None:
    span = provided.tracer.start_span("one")
    span.end()
    span.set_attribute("late", 1)
    span.add_event("late")
    span.set_status(Status(StatusCode.ERROR))
    span.update_name("late")
    span.end()
    assert len(caplog.records) == 5
    (stored,) = provided.stored()
    assert (stored.name, stored.attributes, stored.events, stored.status) == (
        "one", {}, (), "unset",
    )  # fmt: skip


def test_times_of_the_callers_own_are_kept_to_the_nanosecond(provided: Provided) -> None:
    start = 1_700_000_000_123_456_789
    span = provided.tracer.start_span("old", start_time=start)
    span.end(start + 77)
    assert (span.start_time, span.end_time) == (start, start + 77)
    (stored,) = provided.stored()
    assert stored.end_ns is not None
    assert stored.end_ns - stored.start_ns == 77
    assert abs(stored.start_ns - start) < 1_000_000_000  # the writer's anchor may have moved


def test_containers_are_what_they_were_when_they_were_set(provided: Provided) -> None:
    values = [1, 2]
    with provided.tracer.start_as_current_span("a", attributes={"v": values}) as span:
        span.set_attribute("w", values)
        values.append(3)
        assert dict(span.attributes) == {"v": (1, 2), "w": (1, 2)}
    (stored,) = provided.stored()
    assert {k: list(v) for k, v in stored.attributes.items()} == {"v": [1, 2], "w": [1, 2]}


def test_a_span_may_end_in_another_thread(provided: Provided) -> None:
    span = provided.tracer.start_span("handed on")
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()
    assert [s.name for s in provided.stored()] == ["handed on"]


def test_leaving_in_another_context_says_nothing(
    provided: Provided, caplog: pytest.LogCaptureFixture
) -> None:
    manager = provided.tracer.start_as_current_span("elsewhere")
    contextvars.copy_context().run(manager.__enter__)
    manager.__exit__(None, None, None)
    assert caplog.records == []
    assert [s.name for s in provided.stored()] == ["elsewhere"]


def test_what_one_span_has_from_its_caller_the_others_of_the_scope_have_not(
    provided: Provided,
) -> None:
    """They share what the scope says of them; the writer must not write into that."""
    state = TraceState([("vendor", "1")])
    caller = SpanContext(7, 9, True, TraceFlags(1), state)
    with use_span(NonRecordingSpan(caller)):
        provided.tracer.start_span("called").end()
    provided.stored()
    provided.tracer.start_span("own").end()
    spans = provided.by_name()
    assert (spans["called"].remote_parent, spans["called"].trace_state) == (True, "vendor=1")
    assert (spans["own"].remote_parent, spans["own"].trace_state) == (False, "")
    assert spans["own"].scope == spans["called"].scope == "tests"
