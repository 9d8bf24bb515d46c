"""What a span says of itself, and that nothing the program says can hurt it."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import Any

import pytest

from tests.conftest import Recording


def test_attributes_are_kept_as_they_were_when_the_span_ended(recording: Recording) -> None:
    items = [1, 2]
    with recording.tracer.span("work", user=42, items=items) as span:
        span.set(route="/x", ok=True).set_attributes({"http.request.method": "GET"})
        span.set(user=43)
    items.append(3)
    assert recording.one().attributes == {
        "user": 43,
        "items": [1, 2],
        "route": "/x",
        "ok": True,
        "http.request.method": "GET",
    }


def test_what_comes_after_the_end_is_ignored(recording: Recording) -> None:
    with recording.tracer.span("work", before=1) as span:
        assert span.recording
    assert not span.recording
    span.set(after=1).event("late").error("late").set_status("error").set_kind("server")
    span.end()
    done = recording.one()
    assert done.attributes == {"before": 1}
    assert (done.status, done.kind, done.events) == ("unset", "internal", ())


def test_an_exception_marks_the_span_and_passes_on(recording: Recording) -> None:
    with pytest.raises(ZeroDivisionError), recording.tracer.span("work"):
        _ = 1 / 0
    span = recording.one()
    assert span.status == "error"
    assert span.status_description == "ZeroDivisionError: division by zero"
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ZeroDivisionError"
    assert event.attributes["exception.message"] == "division by zero"
    assert "_ = 1 / 0" in event.attributes["exception.stacktrace"]
    assert span.end_ns is not None and span.start_ns <= event.time_ns <= span.end_ns + 1_000_000


@pytest.mark.parametrize("leaving", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
def test_control_flow_is_no_error(recording: Recording, leaving: BaseException) -> None:
    with pytest.raises(type(leaving)), recording.tracer.span("work"):
        raise leaving
    assert recording.one().status == "unset"


def test_error_status_kind_event_and_link_by_hand(recording: Recording) -> None:
    tracer = recording.tracer
    other = tracer.start_span("other")
    other.end()
    span = tracer.start_span("work")
    span.set_kind("client").event("retry", attempt=2)
    span.link(other, why="cause").link("no traceparent")
    span.error(ValueError("bad"))
    span.end()
    done = recording.by_name()["work"]
    assert done.kind == "client"
    assert done.status == "error" and done.status_description == "ValueError: bad"
    assert {e.name for e in done.events} == {"retry", "exception"}
    (link,) = done.links
    assert (link.trace_id, link.span_id) == (other.trace_id, other.span_id)
    assert link.attributes == {"why": "cause"}


def test_any_status_text_is_kept(recording: Recording) -> None:
    with recording.tracer.span("work") as span:
        span.set_status("warning", "slow")  # type: ignore[arg-type]
    done = recording.one()
    assert (done.status, done.status_text, done.status_description) == ("unset", "warning", "slow")


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text of me")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (2**70, str(2**70)),
        (Broken(), "<Broken>"),
        ({1: {2: (3, None)}}, {"1": {"2": [3, None]}}),
        (b"\x00\xff", b"\x00\xff"),
        ("\ud800", "?"),
        (float("inf"), float("inf")),
        (None, None),
        (-(2**63), -(2**63)),
    ],
)
def test_odd_values_become_what_attributes_can_hold(
    recording: Recording, value: Any, kept: object
) -> None:
    with recording.tracer.span("work", value=value):
        pass
    assert recording.one().attributes == {"value": kept}


@pytest.mark.parametrize("name", [None, 3, Broken(), b"x", "\udfff", ["a"]])
def test_odd_names_become_text(recording: Recording, name: Any) -> None:
    with recording.tracer.span(name):
        pass
    assert isinstance(recording.one().name, str)
    assert recording.tracer.ledger()["changed"]["names_changed"] == 1


def test_a_value_that_holds_itself_ends_somewhere(recording: Recording) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with recording.tracer.span("work", circle=circle):
        pass
    assert "circle" in recording.one().attributes


def test_limits_keep_the_last_and_count_the_rest(make_recording: Any) -> None:
    recording = make_recording(max_attributes=2, max_attribute_length=3, max_events=1, max_links=1)
    other = recording.tracer.start_span("other")
    with recording.tracer.span("work", a=1, b="abcdef", c=[1, "xyzzy"]) as span:
        span.event("first").event("second")
        span.link(other).link("00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    other.end()
    done = recording.by_name()["work"]
    assert done.attributes == {"b": "abc", "c": [1, "xyz"]}
    assert done.dropped_attributes == 1
    assert [e.name for e in done.events] == ["second"] and done.dropped_events == 1
    assert [link.span_id for link in done.links] == [int("2" * 16, 16)]
    assert done.dropped_links == 1
    changed = recording.tracer.ledger()["changed"]
    assert changed["attributes_dropped"] == 1
    assert changed["values_truncated"] == 2


def test_end_takes_a_time_but_never_before_the_start(recording: Recording) -> None:
    tracer = recording.tracer
    early, late = tracer.start_span("early"), tracer.start_span("late")
    early.end(end_ns=1)
    late.end(end_ns=2_000_000_000_000_000_000)
    spans = recording.by_name()
    assert spans["early"].duration_ns == 0
    assert spans["late"].end_ns == 2_000_000_000_000_000_000


def test_it_ends_once_whichever_threads_try(recording: Recording) -> None:
    for _ in range(50):
        span = recording.tracer.start_span("work")
        gate = threading.Barrier(4)

        def end(span: Any = span, gate: Any = gate) -> None:
            gate.wait()
            span.end()

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(recording.spans()) == 50


def test_off_is_one_span_that_remembers_nothing(make_recording: Any) -> None:
    recording = make_recording(enabled=False)
    tracer = recording.tracer
    with tracer.span("work", a=1) as span:
        assert span is tracer.span("other")
        span.set(b=2).event("x").error(ValueError()).link(span)
        assert not span.recording
    tracer.start_span("x").end()
    assert recording.spans() == []
    assert tracer.ledger()["recorded"] == 0


def test_names_of_wrapped_functions(recording: Recording) -> None:
    tracer = recording.tracer

    class Thing:
        @tracer.wrap
        def method(self) -> str:
            return "method"

        @tracer.wrap("static")
        @staticmethod
        def static(x: int) -> int:
            return x

    @tracer.wrap(lambda args, kwargs: f"user:{args[0]}")
    def user(number: int) -> int:
        """Its documentation."""
        return number

    @tracer.wrap(lambda args, kwargs: args[7])
    def nameless() -> None: ...

    @tracer.wrap("slow", kind_of="batch")
    async def slow() -> int:
        return 1

    shorter = tracer.wrap(lambda x: x + 1)
    assert Thing().method() == "method" and Thing.static(4) == 4
    assert user(5) == 5 and user.__doc__ == "Its documentation." and user.__name__ == "user"
    nameless()
    assert asyncio.run(slow()) == 1 and asyncio.iscoroutinefunction(slow)
    assert shorter(1) == 2
    spans = recording.by_name()
    where = "test_names_of_wrapped_functions.<locals>."
    assert set(spans) == {
        where + "Thing.method",
        "static",
        "user:5",
        where + "nameless",
        "slow",
        where + "<lambda>",
    }
    assert spans["slow"].attributes == {"kind_of": "batch"}
