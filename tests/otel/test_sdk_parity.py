"""The same program on the SDK and on ours: what can be read of the spans is the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from afterglow.otel import TracerProvider
from afterglow.testing import ListSink


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Kept(sdk.SpanProcessor):
    """What can be read of each span when it ends."""

    def __init__(self) -> None:
        self.read: list[dict[str, Any]] = []

    def on_end(self, span: Any) -> None:
        self.read.append(
            {
                "name": span.name,
                "kind": span.kind,
                "attributes": dict(span.attributes),
                "events": [(e.name, dict(e.attributes), e.dropped_attributes) for e in span.events],
                "links": [
                    (k.context, dict(k.attributes), k.dropped_attributes) for k in span.links
                ],
                "status": (span.status.status_code, span.status.description),
                "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
                "parent": span.parent and span.parent.is_remote,
                "flags": span.context.trace_flags & KNOWN_FLAGS,
            }
        )


#: Older versions have no flag that says how random a trace id is.
KNOWN_FLAGS = 0xFF if hasattr(TraceFlags, "RANDOM_TRACE_ID") else TraceFlags.SAMPLED
KEYS = st.sampled_from(["a", "b", "c", "d", "", 7])
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-1, 1)
    | st.text(max_size=4)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=5)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
)
LINKS = st.builds(lambda c, a: (c, a), CONTEXTS, ATTRIBUTES)
CODES = st.sampled_from(list(StatusCode))
STEPS = st.one_of(
    st.tuples(st.just("set_attribute"), KEYS, VALUES),
    st.tuples(st.just("set_attributes"), ATTRIBUTES),
    st.tuples(st.just("add_event"), st.text(max_size=3), ATTRIBUTES),
    st.tuples(st.just("add_link"), CONTEXTS, ATTRIBUTES),
    st.tuples(st.just("update_name"), st.text(max_size=3)),
    st.tuples(st.just("set_status"), CODES, st.none() | st.just("why")),
    st.tuples(st.just("set_status"), CODES.map(Status)),
    st.tuples(st.just("record_exception"), st.builds(ValueError, st.text(max_size=3)), ATTRIBUTES),
    st.tuples(st.just("end")),
)
SPANS = st.fixed_dictionaries(
    {
        "name": st.text(max_size=4),
        "kind": st.sampled_from(list(SpanKind)),
        "attributes": st.none() | ATTRIBUTES,
        "links": st.lists(LINKS, max_size=4),
        "steps": st.lists(STEPS, max_size=6),
        "parent": st.none() | CONTEXTS,
        "current": st.booleans(),
        "raises": st.booleans(),
    }
)
LIMITS = st.fixed_dictionaries(
    {
        name: st.sampled_from([None, 0, 1, 2, 3])
        for name in (
            "max_events",
            "max_links",
            "max_span_attributes",
            "max_event_attributes",
            "max_link_attributes",
            "max_attribute_length",
            "max_span_attribute_length",
        )
    }
)


def played(provider: Any, spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = Kept()
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("parity")
    for wanted in spans:
        parent = wanted["parent"]
        given = {
            "context": None if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            "kind": wanted["kind"],
            "attributes": wanted["attributes"],
            "links": [Link(c, a) for c, a in wanted["links"]],
        }
        if not given["links"]:
            del given["links"]
        if wanted["current"]:
            try:
                with tracer.start_as_current_span(wanted["name"], **given) as span:
                    acted(span, wanted["steps"])
                    if wanted["raises"]:
                        raise RuntimeError("out")
            except RuntimeError:
                pass
        else:
            span = tracer.start_span(wanted["name"], **given)
            acted(span, wanted["steps"])
            span.end()
    provider.shutdown()
    return kept.read


def acted(span: Any, steps: list[Any]) -> None:
    for name, *arguments in steps:
        getattr(span, name)(*arguments)


def without_stacks(read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for span in read:
        for _, attributes, _ in span["events"]:
            attributes.pop("exception.stacktrace", None)
    return read


@settings(max_examples=150, deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=3), LIMITS)
def test_what_is_read_is_what_the_sdk_gives(
    spans: list[dict[str, Any]], limits: dict[str, Any]
) -> None:
    sink = ListSink()
    made = sdk.SpanLimits(**limits)
    theirs = sdk.TracerProvider(span_limits=made, shutdown_on_exit=False)
    ours = TracerProvider(span_limits=made, shutdown_on_exit=False, database=sink)
    expected = without_stacks(played(theirs, spans))
    assert without_stacks(played(ours, spans)) == expected
    assert len(sink.spans) == len(expected)
