"""Payloads of buffered spans as columns, for stores: without making a value of each span.

A payload is an OTLP `ResourceSpans` message that holds one span. A hundred thousand of them are
decoded a few seconds sooner than as `model.span.Span`s; what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.model.span import KINDS, STATUS_CODES, Event, Link

__all__ = ["PayloadColumns", "read_columns"]

_LARGEST: Final = (1 << 63) - 1
_KINDS: Final = dict(enumerate(("internal", *KINDS)))
_STATUSES: Final = dict(enumerate(STATUS_CODES))
_ERROR: Final = STATUS_CODES.index("error")
_ENTRY: Final = ("server", "consumer")
_REMOTE_KNOWN: Final = 0x100
_REMOTE: Final = 0x200
_FLAGS: Final = 0xFF
_NO_SPAN: Final = bytes(8)
_json: Final = msgspec.json.Encoder().encode

#: Makes JSON text of attributes, whatever is in them.
Encode = Callable[[Mapping[str, Any]], str]


class PayloadColumns(msgspec.Struct):
    """The spans of one resource, all of them ended: columns of equal length.

    Ids are hexadecimal text, times wall-clock ns in 63 bits. `extras` has, by row, what most spans
    that programs record leave at its default: kind, status, its description, its text (never),
    trace state, trace flags, scope, its version, dropped attributes, dropped events, dropped
    links, whether the parent is remote, and the numbers of events and links.
    """

    resource: dict[str, Any]
    trace_id: list[str] = []
    span_id: list[str] = []
    parent_span_id: list[str | None] = []
    name: list[str] = []
    start_ns: list[int] = []
    end_ns: list[int | None] = []
    duration_ns: list[int | None] = []
    attributes: list[str] = []
    extras: dict[int, tuple[Any, ...]] = {}
    events: dict[int, Sequence[Event]] = {}
    links: dict[int, Sequence[Link]] = {}
    errors: int = 0

    def __len__(self) -> int:
        return len(self.span_id)


def read_columns(
    payloads: Iterable[bytes], encode: Encode
) -> tuple[list[PayloadColumns], list[int]]:
    """The spans of payloads by resource, in their order, and which payloads cannot be read.

    `encode` makes the text of attributes that are more than strings, integers and booleans; these
    are plain JSON.
    """
    found: dict[bytes, PayloadColumns] = {}
    unreadable: list[int] = []
    for at, payload in enumerate(payloads):
        try:
            spans = ResourceSpans.FromString(payload)
            scope_spans = spans.scope_spans[0]
            span = scope_spans.spans[0]
        except (DecodeError, IndexError):
            unreadable.append(at)
            continue
        resource = spans.resource
        key = resource.SerializeToString()
        columns = found.get(key)
        if columns is None:
            columns = found[key] = PayloadColumns(_attributes(resource.attributes))
        _add(columns, span, scope_spans.scope)
        columns.attributes.append(_text(span.attributes, encode))
    return list(found.values()), unreadable


def _add(columns: PayloadColumns, span: Any, scope: Any) -> None:
    """All of a span but its attributes."""
    own, parent, status = span.span_id, span.parent_span_id, span.status
    kind, flags = _KINDS.get(span.kind, "internal"), span.flags
    events, links = span.events, span.links
    remote = False
    if not parent or parent in (own, _NO_SPAN):
        parent_id = None
    else:
        parent_id = parent.hex()
        remote = bool(flags & _REMOTE) if flags & _REMOTE_KNOWN else kind in _ENTRY
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not start <= end <= _LARGEST:
        start = min(start, _LARGEST)
        end = max(start, min(end, _LARGEST))
    row = len(columns.span_id)
    columns.trace_id.append(span.trace_id.hex())
    columns.span_id.append(own.hex())
    columns.parent_span_id.append(parent_id)
    columns.name.append(span.name)
    columns.start_ns.append(start)
    columns.end_ns.append(end)
    columns.duration_ns.append(end - start)
    columns.extras[row] = (
        kind, _STATUSES.get(status.code, "unset"), status.message, "", span.trace_state,
        flags & _FLAGS, scope.name, scope.version, span.dropped_attributes_count,
        span.dropped_events_count, span.dropped_links_count, remote, len(events), len(links),
    )  # fmt: skip
    if events:
        columns.events[row] = [_event(event) for event in events]
    if links:
        columns.links[row] = [_link(link) for link in links]
    if status.code == _ERROR:
        columns.errors += 1


def _text(attributes: Any, encode: Encode) -> str:
    """Attributes as JSON text: at once where all of them are plain, as nearly always."""
    found: dict[str, Any] = {}
    plain = True
    for pair in attributes:
        value = pair.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            found[pair.key] = value.string_value
        elif kind == "int_value":
            found[pair.key] = value.int_value
        elif kind == "bool_value":
            found[pair.key] = value.bool_value
        else:
            found[pair.key] = _value(value)
            plain = False
    return _json(found).decode() if plain else encode(found)


def _event(event: Any) -> Event:
    return Event(
        event.name,
        min(event.time_unix_nano, _LARGEST),
        _attributes(event.attributes),
        event.dropped_attributes_count,
    )


def _link(link: Any) -> Link:
    return Link(
        int.from_bytes(link.trace_id),
        int.from_bytes(link.span_id),
        link.trace_state,
        _attributes(link.attributes),
        link.dropped_attributes_count,
    )


def _attributes(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
