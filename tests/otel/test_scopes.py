"""Tracers of one provider share their spans' class, and each span knows its own scope."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from tests.otel.conftest import Provided


def test_spans_of_many_tracers_are_of_one_class(provided: Provided) -> None:
    first, second = (provided.provider.get_tracer(name, "2") for name in ("a", "b"))
    kind = trace.SpanKind.CLIENT

    @second.start_as_current_span("decorated", kind=kind)  # type: ignore[untyped-decorator]
    def decorated() -> Any:
        return trace.get_current_span()

    with first.start_as_current_span("one") as one, second.start_as_current_span("two") as two:
        three = second.start_span("three", kind=kind)
        three.add_event("makes details")
        three.end()
        four = decorated()
    assert type(one) is type(two) is type(four)
    scopes = [span.instrumentation_scope.name for span in (one, two, three, four)]
    assert scopes == ["a", "b", "b", "b"]
    assert {name: (s.scope, s.scope_version, s.kind) for name, s in provided.by_name().items()} == {
        "one": ("a", "2", "internal"),
        "two": ("b", "2", "internal"),
        "three": ("b", "2", "client"),
        "decorated": ("b", "2", "client"),
    }
