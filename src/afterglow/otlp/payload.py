"""Payloads of buffered spans: each an OTLP `ResourceSpans` message that holds one span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.model.span import KINDS, STATUS_CODES, Event, Kind, Link, Span
from afterglow.otlp.splice import field

__all__ = ["ReceivedSpan", "payload_of", "read_payloads", "to_request", "to_request_json"]

_KINDS: Final[tuple[Kind, ...]] = ("internal", *KINDS)


class ReceivedSpan(msgspec.Struct, frozen=True):
    """A span, and the resource that sent it; spans of one resource share the mapping."""

    resource_key: bytes
    resource: dict[str, Any]
    span: Span


def payload_of(span: Span, resource: Mapping[str, Any]) -> bytes:
    """The payload of a span."""
    message = ResourceSpans()
    _put(message.resource.attributes, resource)
    scope = message.scope_spans.add()
    scope.scope.name, scope.scope.version = span.scope, span.scope_version
    out = scope.spans.add()
    out.trace_id = span.trace_id.to_bytes(16)
    out.span_id = span.span_id.to_bytes(8)
    if span.parent_span_id:
        out.parent_span_id = span.parent_span_id.to_bytes(8)
        out.flags = 0x300 if span.remote_parent else 0x100
    out.flags |= span.trace_flags
    out.trace_state = span.trace_state
    out.name = span.name
    out.kind = 1 + KINDS.index(span.kind)
    out.start_time_unix_nano = span.start_ns
    out.end_time_unix_nano = span.end_ns or span.start_ns
    _put(out.attributes, span.attributes)
    out.dropped_attributes_count = span.dropped_attributes
    out.dropped_events_count = span.dropped_events
    out.dropped_links_count = span.dropped_links
    out.status.code = STATUS_CODES.index(span.status)
    out.status.message = span.status_description
    for event in span.events:
        made = out.events.add(time_unix_nano=event.time_ns, name=event.name)
        made.dropped_attributes_count = event.dropped_attributes
        _put(made.attributes, event.attributes)
    for link in span.links:
        linked = out.links.add(
            trace_id=link.trace_id.to_bytes(16),
            span_id=link.span_id.to_bytes(8),
            trace_state=link.trace_state,
        )
        linked.dropped_attributes_count = link.dropped_attributes
        _put(linked.attributes, link.attributes)
    return bytes(message.SerializeToString())


def read_payloads(payloads: Iterable[bytes]) -> list[ReceivedSpan]:
    """The spans of payloads, in their order."""
    found = []
    resources: dict[bytes, dict[str, Any]] = {}
    for payload in payloads:
        message = ResourceSpans.FromString(payload)
        key = message.resource.SerializeToString()
        resource = resources.get(key)
        if resource is None:
            resource = resources[key] = _attributes(message.resource.attributes)
        scope = message.scope_spans[0]
        found.append(ReceivedSpan(key, resource, _span(scope.spans[0], scope.scope)))
    return found


def to_request(payloads: Iterable[bytes]) -> bytes:
    """One ExportTraceServiceRequest of all of them."""
    return b"".join([field(0x0A, payload) for payload in payloads])


def to_request_json(payloads: Iterable[bytes]) -> bytes:
    """The same in OTLP's JSON: ids are hexadecimal digits, enums numbers."""
    request = ExportTraceServiceRequest.FromString(to_request(payloads))
    document = MessageToDict(request, use_integers_for_enums=True)
    for resource_spans, own in zip(
        document.get("resourceSpans", ()), request.resource_spans, strict=True
    ):
        for scope, own_scope in zip(resource_spans["scopeSpans"], own.scope_spans, strict=True):
            for span, own_span in zip(scope["spans"], own_scope.spans, strict=True):
                span["traceId"], span["spanId"] = own_span.trace_id.hex(), own_span.span_id.hex()
                if own_span.parent_span_id:
                    span["parentSpanId"] = own_span.parent_span_id.hex()
                for link, own_link in zip(span.get("links", ()), own_span.links, strict=True):
                    link["traceId"], link["spanId"] = (
                        own_link.trace_id.hex(),
                        own_link.span_id.hex(),
                    )
    return msgspec.json.encode(document)


def _span(span: Any, scope: Any) -> Span:
    kind: Kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "internal"
    parent = int.from_bytes(span.parent_span_id)
    known = bool(span.flags & 0x100)
    remote = bool(span.flags & 0x200) if known else kind in ("server", "consumer")
    return Span(
        trace_id=int.from_bytes(span.trace_id),
        span_id=int.from_bytes(span.span_id),
        parent_span_id=parent,
        name=span.name,
        kind=kind,
        start_ns=span.start_time_unix_nano,
        end_ns=max(span.end_time_unix_nano, span.start_time_unix_nano),
        attributes=_attributes(span.attributes),
        events=tuple(
            Event(e.name, e.time_unix_nano, _attributes(e.attributes), e.dropped_attributes_count)
            for e in span.events
        ),
        links=tuple(
            Link(
                int.from_bytes(link.trace_id), int.from_bytes(link.span_id), link.trace_state,
                _attributes(link.attributes), link.dropped_attributes_count,
            )
            for link in span.links
        ),
        status=STATUS_CODES[span.status.code] if 0 <= span.status.code < 3 else "unset",
        status_description=span.status.message,
        trace_state=span.trace_state,
        trace_flags=span.flags & 0xFF,
        scope=scope.name,
        scope_version=scope.version,
        dropped_attributes=span.dropped_attributes_count,
        dropped_events=span.dropped_events_count,
        dropped_links=span.dropped_links_count,
        remote_parent=bool(parent) and remote,
    )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def _put(pairs: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        _set(pairs.add(key=key).value, value)


def _set(out: Any, value: Any) -> None:
    if isinstance(value, bool):
        out.bool_value = value
    elif isinstance(value, str):
        out.string_value = value
    elif isinstance(value, int):
        out.int_value = value
    elif isinstance(value, float):
        out.double_value = value
    elif isinstance(value, bytes):
        out.bytes_value = value
    elif isinstance(value, Mapping):
        out.kvlist_value.SetInParent()
        _put(out.kvlist_value.values, value)
    elif isinstance(value, list | tuple):
        out.array_value.SetInParent()
        for item in value:
            _set(out.array_value.values.add(), item)
