"""Spans of this API and of afterglow.Tracer in one tree, where both have one recorder.

Each face keeps what is current in a context variable of its own. Which of the two is the inner
one is told by when it began: also across a fork, for the clock is the machine's.
"""

from __future__ import annotations

from typing import Any

from afterglow.model.flat import RemoteId, widen
from afterglow.otel.api import EMPTY, context_variable, trace_api
from afterglow.otel.span import Span
from afterglow.record.context import RemoteParent, current
from afterglow.record.identity import identity

__all__ = ["around", "innermost"]

_native, _context = current.get, context_variable.get


def innermost() -> Any:
    """The current span of either face, or what stands for one of another process; None: none."""
    native, context = _native(), _context()
    if context is EMPTY:
        return native
    span = trace_api.get_current_span(context)
    if native is None:
        return span if isinstance(span, Span) or span.get_span_context().is_valid else None
    if isinstance(span, Span):
        return native if getattr(native, "start_ns", 0) > span.start_ns else span
    span_context = span.get_span_context()
    if not span_context.is_valid:
        return native
    trace = native.lost[1] if native.trace is None else native.trace
    # A span of the trace that came from elsewhere began after it came.
    return native if widen(identity.seed, trace) == span_context.trace_id else span


def around() -> Any:
    """The same for the recorder's own spans (record/tracer.py, join)."""
    found = innermost()
    if not isinstance(found, trace_api.Span) or isinstance(found, Span):
        return found
    span_context = found.get_span_context()
    remote = RemoteId(span_context.span_id)
    if span_context.trace_state:
        remote.trace_state = span_context.trace_state.to_header()
    return RemoteParent(
        span_context.trace_id.to_bytes(16, "big"),
        remote,
        recorded=bool(span_context.trace_flags.sampled),
    )
