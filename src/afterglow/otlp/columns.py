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

from afterglow.model.span import STATUS_CODES, Event, Link
from afterglow.otlp import reading

__all__ = ["PayloadColumns", "read_columns"]

_ERROR: Final = STATUS_CODES.index("error")
_NONE: Final = (0, "", "", "")
_json: Final = msgspec.json.Encoder().encode

#: Makes JSON text of attributes, whatever is in them.
Encode = Callable[[Mapping[str, Any]], str]


class PayloadColumns(msgspec.Struct):
    """The spans of one resource, all of them ended: columns of equal length.

    Ids are hexadecimal text, times wall-clock ns in 63 bits. `extras` has, by row, what most spans
    that programs record leave at its default: kind, status, its description, its text,
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
    thread_id: list[int] = []
    thread_name: list[str] = []
    task_name: list[str] = []
    extras: dict[int, tuple[Any, ...]] = {}
    events: dict[int, Sequence[Event]] = {}
    links: dict[int, Sequence[Link]] = {}
    errors: int = 0

    def __len__(self) -> int:
        return len(self.span_id)


def read_columns(
    payloads: Iterable[bytes], encode: Encode, *, keep_own: bool = False
) -> tuple[list[PayloadColumns], list[int]]:
    """The spans of payloads by resource, in their order, and which payloads cannot be read.

    `encode` makes the text of attributes that are more than strings, integers and booleans; these
    are plain JSON. With `keep_own`, thread, task and status text stay among the attributes.
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
            columns = found[key] = PayloadColumns(reading.attributes_of(resource.attributes))
        _add(columns, span, scope_spans.scope, encode, keep_own)
    return list(found.values()), unreadable


def _add(columns: PayloadColumns, span: Any, scope: Any, encode: Encode, keep_own: bool) -> None:
    parent, remote = reading.parent_of(span)
    start, end = reading.times_of(span)
    status, events, links = span.status, span.events, span.links
    row = len(columns.span_id)
    attributes, own = _text(span.attributes, encode, keep_own)
    columns.trace_id.append(span.trace_id.hex())
    columns.span_id.append(span.span_id.hex())
    columns.parent_span_id.append(parent.hex() or None)
    columns.name.append(span.name)
    columns.start_ns.append(start)
    columns.end_ns.append(end)
    columns.duration_ns.append(end - start)
    columns.attributes.append(attributes)
    columns.thread_id.append(own[0])
    columns.thread_name.append(own[1])
    columns.task_name.append(own[2])
    columns.extras[row] = (
        reading.kind_of(span), reading.status_of(span), status.message, own[3], span.trace_state,
        reading.trace_flags_of(span), scope.name, scope.version, span.dropped_attributes_count,
        span.dropped_events_count, span.dropped_links_count, remote, len(events), len(links),
    )  # fmt: skip
    if events:
        columns.events[row] = [reading.event_of(event) for event in events]
    if links:
        columns.links[row] = [reading.link_of(link) for link in links]
    if status.code == _ERROR:
        columns.errors += 1


def _text(attributes: Any, encode: Encode, keep_own: bool) -> tuple[str, tuple[int, str, str, str]]:
    """Attributes as JSON text, at once where all of them are plain, as nearly always; and what
    `take_own` takes out of them."""
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
            found[pair.key] = reading.value_of(value)
            plain = False
    own = _NONE if keep_own else reading.take_own(found)
    return _json(found).decode() if plain else encode(found), own
