"""What spans do that do not end the short way of hot.py: processors, details, times given."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from afterglow.clock import monotonic_ns
from afterglow.model.flat import Where
from afterglow.otel.processors import Processors
from afterglow.otel.span import Span, logger
from afterglow.record.core import Core

__all__ = ["Turns"]


class Turns:
    """Those of the spans of one provider."""

    def __init__(self, core: Core, processors: Processors, where_now: Callable[[], Where]) -> None:
        self._core = core
        self._processors = processors
        self._where_now = where_now

    def run(self, span: Any, context: Any) -> Any:
        """Set a span going that `begin` has made; one that is left out has nothing to set going."""
        if isinstance(span, Span):
            span.where = self._where_now()
            details = span.details
            given = None if details is None else details.start_time
            span.start_ns = monotonic_ns() if given is None else given - self._core.wall_offset_ns
            self._core.registry[span.span_id] = span
            self._processors.on_start(span, context)
        return span

    def end(self, span: Span, end_ns: int, end_time: int | None) -> None:
        """`end_time` is the caller's, ns since 1970."""
        if span.end_ns is not None:
            logger.warning("Calling end() on an ended span.")
            return
        if end_time is not None:
            span.more().end_time = end_time
            end_ns = max(span.start_ns, end_time - self._core.wall_offset_ns)
        self.finish(span, end_ns)

    def leave(self, span: Span, end_ns: int) -> None:
        """The end of a `with`."""
        if span.end_ns is None:
            self.finish(span, end_ns)
        elif span.span_id:
            logger.warning("Calling end() on an ended span.")

    def finish(self, span: Span, end_ns: int) -> None:
        """End a span, once, whoever asks first."""
        registry, processors = self._core.registry, self._processors
        if registry.get(span.span_id) is not span:
            return
        processors.on_ending(span)
        if registry.pop(span.span_id, None) is None:
            return
        span.end_ns = end_ns
        if span.sampled:
            self.hand_over(span, end_ns)
        else:
            self._core.handover.not_recorded["sampled_out"].add()
        processors.on_end(span)

    def hand_over(self, span: Span, end_ns: int) -> None:
        """Its record, however much there is to say."""
        span.settle()
        attributes, details = span._attributes, span.details
        extra = span.scope.extra(span._kind)
        if details is not None:
            extra = details.extra(extra, self._core.wall_offset_ns)
        self._core.handover.put(
            (
                span.trace,
                span.span_id,
                span.parent_id,
                span._name,
                span.start_ns,
                end_ns,
                self._core.owned(attributes) if gc.is_tracked(attributes) else attributes,
                span.where,
                extra,
            )
        )
