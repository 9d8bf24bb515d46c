"""Beginning a span the whole way: any Context, any sampler, links, times of the caller's own.

Most spans begin in hot.py, in a tenth of the time; this is for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afterglow.model.flat import RemoteId
from afterglow.otel.api import EMPTY, context_variable, trace_api
from afterglow.otel.as_context import AsContext
from afterglow.otel.details import valid_link
from afterglow.otel.inherited import RANDOM, ROOT, SAMPLED, Inherited, Scope
from afterglow.otel.not_recorded import NotRecorded
from afterglow.otel.span import Span
from afterglow.record.context import current
from afterglow.record.identity import identity

__all__ = ["Begin", "Sampling"]

#: A sampler's `should_sample`, or None for "as the parent; roots are recorded".
Sampling = Callable[..., Any] | None


class Begin:
    """One tracer's way to begin a span; makes it a child of what its Context holds."""

    def __init__(
        self,
        scope: Scope,
        should_sample: Sampling,
        refusal: Callable[[int | bytes], str | None] | None,
        id_generator: Any,
    ) -> None:
        self._scope = scope
        self._should_sample = should_sample
        self._refusal = refusal
        self._ids = id_generator
        #: What is made where nothing is recorded; hot.py sets the tracer's own class.
        self.left_out: type[NotRecorded] = NotRecorded

    def __call__(
        self, span: Span, given: Any, attributes: Any, links: Any, start_time: int | None
    ) -> Any:
        """The span, with its identity but not yet running; or a NotRecorded in its place.

        `given` is the caller's Context, None for the current one. The span has name and kind.
        """
        context = context_variable.get() if given is None else given
        parent = trace_api.get_current_span(context)
        # Beneath a span that stands for a Context is what was beneath it, not itself: else a
        # trace of a thousand spans, one in the other, would be as deep to look through.
        beneath = context.inherited.base if isinstance(context, AsContext) else context
        innermost = self._scope.innermost
        if innermost is not None and given is None:
            parent = innermost() or parent
        sampled = self._join(span, beneath, parent, is_given=given is not None)
        should_sample = self._should_sample
        if should_sample is not None:
            result = should_sample(
                given, span.trace_id, span._name, span._kind, attributes, links or ()
            )
            attributes = result.attributes
            sampled = result.decision.is_sampled()
            flags = SAMPLED if sampled else 0
            self._inherit(span, flags | (span.inherited.flags & RANDOM), result.trace_state)
            if not result.decision.is_recording():
                return self._leave_out(span, "sampled_out" if not span.parent_id else "parent")
            if not sampled:
                span.sampled = False
                span.more()  # so that it ends the way that looks at `sampled`
        elif not sampled:
            return self._leave_out(span, "parent")
        if self._refusal is not None and not span.parent_id:
            reason = self._refusal(span.trace)
            if reason is not None:
                return self._leave_out(span, reason)
        self._say(span, attributes, links, start_time)
        return span

    def _join(self, span: Span, context: Any, parent: Any, *, is_given: bool) -> bool:
        """Give the span its trace, id and parent; whether the parent is recorded."""
        ids = self._ids
        span.span_id = identity.next_id() if ids is None else ids.generate_span_id()
        if isinstance(parent, Span | NotRecorded):
            span.trace, span.parent_id = parent.trace, parent.span_id
            span._parent_context = parent.get_span_context()
            mine = parent.inherited
            span.inherited = Inherited(context, mine.flags, mine.trace_state)
            return parent.sampled
        if not isinstance(parent, trace_api.Span):
            return self._native(span, context, parent)
        parent_context = parent.get_span_context()
        if parent_context is not None and not isinstance(parent_context, trace_api.SpanContext):
            raise TypeError("parent_span_context must be a SpanContext or None.")
        if parent_context is not None and parent_context.is_valid:
            span._parent_context = parent_context
            span.trace = parent_context.trace_id.to_bytes(16, "big")
            span.parent_id = _parent_id(parent_context)
            flags = parent_context.trace_flags
            span.inherited = Inherited(
                context, SAMPLED | (flags & RANDOM), parent_context.trace_state
            )
            return bool(flags.sampled)
        if not is_given:
            around = current.get() or self._scope.core.base  # a span of afterglow.Tracer's own
            if around is not None and ids is None:
                return self._native(span, context, around)
        return self._root(span, context)

    def _native(self, span: Span, context: Any, around: Any) -> bool:
        """Under a span of afterglow.Tracer, or the caller of this whole process."""
        span.inherited = _inherited(context)
        span.trace = around.lost[1] if around.trace is None else around.trace
        span.parent_id = around.span_id
        return around.trace is not None

    def _root(self, span: Span, context: Any) -> bool:
        ids = self._ids
        span.inherited = _inherited(context)
        if ids is not None:
            span.trace = ids.generate_trace_id().to_bytes(16, "big")
            is_random = getattr(ids, "is_trace_id_random", None)
            if is_random is None or not is_random():
                self._inherit(span, SAMPLED, ROOT.trace_state)
            span.parent_id = 0
            return True
        span.trace, span.parent_id = span.span_id, 0
        return True

    def _inherit(self, span: Span, flags: int, trace_state: Any) -> None:
        if trace_state is None:
            trace_state = ROOT.trace_state
        span.inherited = Inherited(span.inherited.base, flags, trace_state)

    def _leave_out(self, span: Span, reason: str) -> Any:
        """Not recorded: the trace goes on, this span is a place in it and no more."""
        self._scope.core.handover.not_recorded[reason].add()
        left: NotRecorded = self.left_out()
        left.trace, left.span_id, left.inherited = span.trace, int(span.span_id), span.inherited
        return left

    def _say(self, span: Span, attributes: Any, links: Any, start_time: int | None) -> None:
        span._attributes = {}
        if attributes:
            span._set_bounded(attributes)
        if links:
            limits = self._scope.limits
            for link in links:
                if link and valid_link(link.context, link.attributes):
                    span.more().add_link(link.context, link.attributes, limits)
        if start_time is not None:
            span.more().start_time = start_time


def _inherited(context: Any) -> Inherited:
    return ROOT if context is EMPTY else Inherited(context, ROOT.flags, ROOT.trace_state)


def _parent_id(context: Any) -> int:
    if not context.is_remote:
        return int(context.span_id)
    remote = RemoteId(context.span_id)
    if context.trace_state:
        remote.trace_state = context.trace_state.to_header()
    return remote
