"""A span as ferret-io knows it: what `Profiler` and `Report` speak of, and BeaverDB files hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from afterglow.model.span import Attributes, Event, Span, span_id_hex

__all__ = ["DEFAULT_NAMESPACE", "ProfileSpan", "profile_span", "tags_with_error"]

#: The log that ferret-io writes unless told otherwise. Spans recorded with another namespace
#: carry it as their instrumentation scope.
DEFAULT_NAMESPACE: Final = "_ferret_trace"


class ProfileSpan(msgspec.Struct, kw_only=True):
    """One span; times are float seconds since 1970, the duration in seconds.

    The order of the fields is the stored form's. `end_time` and `duration` are None while the
    span is open. `status` is "ok", "error", or whatever the program set.
    """

    span_id: str
    parent_id: str | None = None
    run_id: str
    name: str
    start_time: float
    end_time: float | None = None
    duration: float | None = None
    tags: dict[str, Any] = {}
    status: str = "ok"


def profile_span(span: Span) -> ProfileSpan:
    """The same span, as ferret-io would say it."""
    duration_ns = span.duration_ns
    return ProfileSpan(
        span_id=span_id_hex(span.span_id),
        parent_id=span_id_hex(span.parent_span_id) if span.parent_span_id else None,
        run_id=span.run_id,
        name=span.name,
        start_time=span.start_ns / 1e9,
        end_time=None if span.end_ns is None else span.end_ns / 1e9,
        duration=None if duration_ns is None else duration_ns / 1e9,
        tags=tags_with_error(span.attributes, span.events),
        status=span.status_text or ("error" if span.status == "error" else "ok"),
    )


def tags_with_error(tags: Attributes, events: Sequence[Event]) -> Attributes:
    """The tags, naming the exception that was recorded, as ferret-io does, unless they do."""
    for event in reversed(events):
        if event.name == "exception":
            kind = str(event.attributes.get("exception.type", ""))
            message = event.attributes.get("exception.message", "")
            return {"error": message, "error_type": kind.rpartition(".")[2]} | tags
    return tags
