"""A span as the JSON that the SDK's `to_json()` gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from afterglow.otel.api import trace_api

__all__ = ["iso_time", "span_to_json"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(time_ns: int | None) -> str | None:
    """ISO 8601 in UTC, microseconds; None and 0 give None."""
    if not time_ns:
        return None
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _context(context: Any) -> dict[str, str] | None:
    if context is None:
        return None
    return {
        "trace_id": f"0x{trace_api.format_trace_id(context.trace_id)}",
        "span_id": f"0x{trace_api.format_span_id(context.span_id)}",
        "trace_state": repr(context.trace_state),
    }


def span_to_json(span: Any, indent: int | None) -> str:
    """One JSON object; values that JSON cannot say become text."""
    parent, status = span.parent, span.status
    shown_status = {"status_code": status.status_code.name}
    if status.description:
        shown_status["description"] = status.description
    return json.dumps(
        {
            "name": span.name,
            "context": _context(span.context),
            "kind": str(span.kind),
            "parent_id": f"0x{trace_api.format_span_id(parent.span_id)}" if parent else None,
            "start_time": iso_time(span.start_time),
            "end_time": iso_time(span.end_time),
            "status": shown_status,
            "attributes": dict(span.attributes),
            "events": [
                {
                    "name": event.name,
                    "timestamp": iso_time(event.timestamp),
                    "attributes": dict(event.attributes or {}),
                }
                for event in span.events
            ],
            "links": [
                {"context": _context(link.context), "attributes": dict(link.attributes or {})}
                for link in span.links
            ],
            "resource": json.loads(span.resource.to_json()),
        },
        indent=indent,
        default=str,
    )
