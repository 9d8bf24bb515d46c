"""Spans as collectors hold them: payloads, buffered spans and parts of segments."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from afterglow.model.segment import BufferedSpan, Fence, SegmentPart

START_NS = 1_700_000_000_000_000_000


def span_id(number: int) -> bytes:
    return number.to_bytes(8)


def trace_id(number: int) -> bytes:
    return number.to_bytes(16)


def buffered(
    number: int,
    parent: int = 0,
    *,
    trace: int = 1,
    start: int = 0,
    end: int = 10,
    name: str = "work",
    service: str = "shop",
    project: str = "default",
    attributes: dict[str, str | int] | None = None,
    **fields: Any,
) -> BufferedSpan:
    """One received span; `fields` are those of OTLP's Span."""
    message = ResourceSpans()
    message.resource.attributes.add(key="service.name").value.string_value = service
    scope_spans = message.scope_spans.add()
    scope_spans.scope.name = "lib"
    span = scope_spans.spans.add()
    span.MergeFrom(Span(**fields))
    span.trace_id, span.span_id = trace_id(trace), span_id(number)
    span.parent_span_id = span_id(parent) if parent else b""
    span.name = name
    span.start_time_unix_nano, span.end_time_unix_nano = START_NS + start, START_NS + end
    for key, value in (attributes or {}).items():
        one = span.attributes.add(key=key).value
        if isinstance(value, str):
            one.string_value = value
        else:
            one.int_value = value
    return BufferedSpan(
        project,
        trace_id(trace),
        span_id(number),
        span_id(parent) if parent else None,
        False,
        message.SerializeToString(),
    )


def part_with(spans: Sequence[BufferedSpan], part: int = 0, **fields: Any) -> SegmentPart:
    """A part of a segment with these spans, all of one trace; the first is its root."""
    first = spans[0]
    identity = repr((first.project, first.trace_id, part, [span.span_id for span in spans]))
    return SegmentPart(
        **{
            "message_id": blake2b(identity.encode(), digest_size=16).hexdigest(),
            "project": first.project,
            "trace_id": first.trace_id,
            "root_span_id": first.span_id,
            "part": part,
            "is_last": True,
            "addendum": False,
            "span_ids": tuple(span.span_id for span in spans),
            "payloads": tuple(span.payload for span in spans),
            "fence": Fence("me", 1, 1),
        }
        | fields
    )
