"""What spans have from their trace, and from their tracer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afterglow.model.flat import Extra
from afterglow.otel.api import EMPTY, trace_api
from afterglow.otel.details import kind_name
from afterglow.otel.limits import SpanLimits
from afterglow.record.core import Core

__all__ = ["RANDOM", "ROOT", "SAMPLED", "UNBOUNDED", "Inherited", "Scope"]

SAMPLED = 0x01
#: W3C Trace Context, level 2: the lower 56 bits of the trace id are random.
RANDOM = 0x02
UNBOUNDED = 1 << 62


class Inherited:
    """The Context beneath the spans (baggage and the like), and the trace's own flags and state.

    Kept apart from the span: a span that has ended and is still current somewhere must not
    lose the baggage.
    """

    __slots__ = ("base", "flags", "trace_state")

    def __init__(self, base: Any, flags: int, trace_state: Any) -> None:
        self.base = base
        self.flags = flags
        self.trace_state = trace_state


#: What the spans of a trace have that begins here, in an empty Context.
ROOT = Inherited(EMPTY, SAMPLED | RANDOM, trace_api.DEFAULT_TRACE_STATE)


class Scope:
    """What the spans of one tracer share."""

    def __init__(
        self,
        core: Core,
        limits: SpanLimits,
        resource: Callable[[], Any],
        instrumentation: Any,
        info: Any = None,
        innermost: Callable[[], Any] | None = None,
    ) -> None:
        self.core = core
        self.limits = limits
        self.resource = resource
        self.instrumentation = instrumentation
        self.info = info
        #: The sampler's description, where its decision is known from the trace id alone.
        self.rule = ""
        #: Finds the current span where spans of afterglow.Tracer are in the same trees; else None.
        self.innermost = innermost
        count = limits.max_span_attributes
        self.attribute_limit = UNBOUNDED if count is None else count
        self.text_limit = limits.max_span_attribute_length
        #: One object for all spans of a kind that have nothing else to say, by the kind's value.
        #: Not by the kind: the hash of an enum costs as much as a tenth of a span.
        self.extras = {
            kind.value: Extra(
                kind=kind_name(kind),
                scope=instrumentation.name or "",
                scope_version=instrumentation.version or "",
            )
            for kind in trace_api.SpanKind
        }
        self.internal = self.extras[0]
        #: The tracer's start_as_current_span (hot.py).
        self.start: Callable[..., Any]

    def extra(self, kind: Any) -> Extra:
        """That of a kind; what is no kind of span is taken as internal."""
        return self.extras.get(getattr(kind, "_value_", 0)) or self.extras[0]
