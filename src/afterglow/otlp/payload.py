"""Payloads of buffered spans: each an OTLP `ResourceSpans` message that holds one span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.model.clean import clean_text, safe_str
from afterglow.model.span import KINDS, STATUS_CODES, Span
from afterglow.otlp import reading
from afterglow.otlp.merge import merged

__all__ = ["ReceivedSpan", "payload_of", "read_payloads", "to_request", "to_request_json"]

_MOST_DROPPED: Final = (1 << 32) - 1
_SIGNED: Final = 1 << 63


class ReceivedSpan(msgspec.Struct, frozen=True):
    """A span, and the resource that sent it; spans of one resource share the mapping."""

    resource_key: bytes
    resource: dict[str, Any]
    span: Span


def payload_of(span: Span, resource: Mapping[str, Any]) -> bytes:
    """The payload of a span that has ended. Raises ValueError where it has not.

    Times before 1970 and beyond 63 bits are cut to these, integers of more than 64 bits and values
    of other types are texts. Its thread, task and status text are attributes, where it has none
    by these names (`reading`).
    """
    if span.end_ns is None:
        raise ValueError("only spans that have ended are sent as OTLP")
    message = ResourceSpans()
    _put(message.resource.attributes, resource)
    scope = message.scope_spans.add()
    scope.scope.name = clean_text(span.scope)
    scope.scope.version = clean_text(span.scope_version)
    out = scope.spans.add()
    out.trace_id = span.trace_id.to_bytes(16)
    out.span_id = span.span_id.to_bytes(8)
    if span.parent_span_id:
        out.parent_span_id = span.parent_span_id.to_bytes(8)
        out.flags = 0x300 if span.remote_parent else 0x100
    out.flags |= span.trace_flags & 0xFF
    out.trace_state = clean_text(span.trace_state)
    out.name = clean_text(span.name)
    out.kind = 1 + KINDS.index(span.kind)
    out.start_time_unix_nano = start = _time(span.start_ns)
    out.end_time_unix_nano = max(start, _time(span.end_ns))
    _put(out.attributes, span.attributes)
    _put(out.attributes, _own(span))
    out.dropped_attributes_count = _dropped(span.dropped_attributes)
    out.dropped_events_count = _dropped(span.dropped_events)
    out.dropped_links_count = _dropped(span.dropped_links)
    out.status.code = STATUS_CODES.index(span.status)
    out.status.message = clean_text(span.status_description)
    for event in span.events:
        made = out.events.add(time_unix_nano=_time(event.time_ns), name=clean_text(event.name))
        made.dropped_attributes_count = _dropped(event.dropped_attributes)
        _put(made.attributes, event.attributes)
    for link in span.links:
        linked = out.links.add(
            trace_id=link.trace_id.to_bytes(16),
            span_id=link.span_id.to_bytes(8),
            trace_state=clean_text(link.trace_state),
        )
        linked.dropped_attributes_count = _dropped(link.dropped_attributes)
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
            resource = resources[key] = reading.attributes_of(message.resource.attributes)
        scope = message.scope_spans[0]
        found.append(ReceivedSpan(key, resource, _span(scope.spans[0], scope.scope)))
    return found


def to_request(payloads: Iterable[bytes]) -> bytes:
    """One ExportTraceServiceRequest of all of them; neighbours share their resource and scope."""
    return merged(payloads)


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
    parent, remote = reading.parent_of(span)
    start, end = reading.times_of(span)
    attributes = reading.attributes_of(span.attributes)
    thread_id, thread_name, task_name, status_text = reading.take_own(attributes)
    return Span(
        trace_id=int.from_bytes(span.trace_id),
        span_id=int.from_bytes(span.span_id),
        parent_span_id=int.from_bytes(parent),
        name=span.name,
        kind=reading.kind_of(span),
        start_ns=start,
        end_ns=end,
        attributes=attributes,
        events=tuple(map(reading.event_of, span.events)),
        links=tuple(map(reading.link_of, span.links)),
        status=reading.status_of(span),
        status_description=span.status.message,
        status_text=status_text,
        trace_state=span.trace_state,
        trace_flags=reading.trace_flags_of(span),
        scope=scope.name,
        scope_version=scope.version,
        dropped_attributes=span.dropped_attributes_count,
        dropped_events=span.dropped_events_count,
        dropped_links=span.dropped_links_count,
        remote_parent=remote,
        thread_id=thread_id,
        thread_name=thread_name,
        task_name=task_name,
    )


def _own(span: Span) -> dict[str, Any]:
    """What OTLP has no field for."""
    own = {
        reading.THREAD_ID: (span.thread_id + _SIGNED) % (2 * _SIGNED) - _SIGNED,
        reading.THREAD_NAME: span.thread_name,
        reading.TASK_NAME: span.task_name,
        reading.STATUS_TEXT: span.status_text,
    }
    return {key: value for key, value in own.items() if value and key not in span.attributes}


def _time(time_ns: int) -> int:
    return min(max(time_ns, 0), reading.LARGEST)


def _dropped(count: int) -> int:
    return min(max(count, 0), _MOST_DROPPED)


def _put(pairs: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        _set(pairs.add(key=clean_text(key)).value, value)


def _set(out: Any, value: Any) -> None:
    if isinstance(value, bool):
        out.bool_value = value
    elif isinstance(value, str):
        out.string_value = clean_text(value)
    elif isinstance(value, int) and -_SIGNED <= value < _SIGNED:
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
    elif value is not None:
        out.string_value = safe_str(value)
