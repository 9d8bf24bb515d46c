"""Requests of OTLP for tests: protobuf messages that hypothesis makes, and the same as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TEXTS = st.text(max_size=12)
KEYS = st.sampled_from(["http.route", "app.password", "tokens", "a"]) | TEXTS
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


@st.composite
def values(draw: Any, depth: int = 3) -> AnyValue:
    kind = draw(st.integers(0, 7 if depth else 5))
    value = AnyValue()
    if kind == 1:
        value.string_value = draw(TEXTS)
    elif kind == 2:
        value.bool_value = draw(st.booleans())
    elif kind == 3:
        value.int_value = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    elif kind == 4:
        value.double_value = draw(st.floats(allow_nan=False))
    elif kind == 5:
        value.bytes_value = draw(st.binary(max_size=12))
    elif kind == 6:
        value.array_value.values.extend(draw(st.lists(values(depth - 1), max_size=3)))
        value.array_value.SetInParent()
    elif kind == 7:
        value.kvlist_value.values.extend(draw(st.lists(pairs(depth - 1), max_size=3)))
        value.kvlist_value.SetInParent()
    return value


@st.composite
def pairs(draw: Any, depth: int = 3) -> KeyValue:
    return KeyValue(key=draw(KEYS), value=draw(values(depth)))


ATTRIBUTES = st.lists(pairs(), max_size=4)


@st.composite
def spans(draw: Any) -> Span:
    span = Span(
        trace_id=draw(st.binary(min_size=16, max_size=16)),
        span_id=draw(st.binary(min_size=8, max_size=8)),
        parent_span_id=draw(st.just(b"") | st.binary(min_size=8, max_size=8)),
        trace_state=draw(TEXTS),
        flags=draw(U32),
        name=draw(TEXTS),
        kind=draw(st.integers(0, 5)),
        start_time_unix_nano=draw(U64),
        end_time_unix_nano=draw(U64),
        attributes=draw(ATTRIBUTES),
        dropped_attributes_count=draw(U32),
    )
    for _ in range(draw(st.integers(0, 2))):
        event = span.events.add(name=draw(TEXTS), time_unix_nano=draw(U64))
        event.attributes.extend(draw(ATTRIBUTES))
    for _ in range(draw(st.integers(0, 2))):
        link = span.links.add(trace_id=draw(st.binary(min_size=16, max_size=16)))
        link.span_id = draw(st.binary(min_size=8, max_size=8))
        link.attributes.extend(draw(ATTRIBUTES))
    if draw(st.booleans()):
        span.status.code = draw(st.integers(0, 2))
        span.status.message = draw(TEXTS)
    return span


@st.composite
def requests(draw: Any) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        found = request.resource_spans.add(schema_url=draw(TEXTS))
        found.resource.attributes.extend(draw(ATTRIBUTES))
        for _ in range(draw(st.integers(0, 2))):
            scope = found.scope_spans.add(schema_url=draw(TEXTS))
            scope.scope.name = draw(TEXTS)
            scope.spans.extend(draw(st.lists(spans(), max_size=3)))
    return request


def as_json(request: ExportTraceServiceRequest, *, numbers_as_text: bool = True) -> bytes:
    """As OTLP says: by protobuf's own mapping, but for ids and enums."""
    document = MessageToDict(request, use_integers_for_enums=True)
    _put_ids(document, request)
    if not numbers_as_text:
        document = _with_numbers(document)
    return msgspec.json.encode(document)


def _put_ids(document: dict[str, Any], request: ExportTraceServiceRequest) -> None:
    for found, own in zip(document.get("resourceSpans", ()), request.resource_spans, strict=True):
        for scope, own_scope in zip(found.get("scopeSpans", ()), own.scope_spans, strict=True):
            for span, own_span in zip(scope.get("spans", ()), own_scope.spans, strict=True):
                span["traceId"], span["spanId"] = own_span.trace_id.hex(), own_span.span_id.hex()
                span["parentSpanId"] = own_span.parent_span_id.hex()
                for link, own_link in zip(span.get("links", ()), own_span.links, strict=True):
                    link["traceId"] = own_link.trace_id.hex()
                    link["spanId"] = own_link.span_id.hex()


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: int(inner)
            if isinstance(inner, str) and (key.endswith("Nano") or key == "intValue")
            else _with_numbers(inner)
            for key, inner in value.items()
        }
    return [_with_numbers(inner) for inner in value] if isinstance(value, list) else value
