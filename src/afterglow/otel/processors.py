"""Span processors of the SDK, beside our own writer."""

from __future__ import annotations

from typing import Any

from afterglow.clock import monotonic_ns

__all__ = ["Processors"]


class Processors:
    """`each` is a list that each tracer's hot path looks at: empty, it costs next to nothing.

    `given` is an SDK processor of processors (ConcurrentMultiSpanProcessor); then it gets what
    is added.
    """

    def __init__(self, given: Any = None) -> None:
        self.each: list[Any] = [] if given is None else [given]
        self._given = given
        #: The hot paths of the provider whose processors these are, by what they depend on.
        self.hot_paths: dict[Any, Any] = {}

    def add_span_processor(self, span_processor: Any) -> None:
        """Called last of all from now on."""
        if self._given is not None:
            self._given.add_span_processor(span_processor)
        else:
            self.each.append(span_processor)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        for processor in self.each:
            processor.on_start(span, parent_context=parent_context)

    def on_ending(self, span: Any) -> None:
        for processor in self.each:
            ending = getattr(processor, "_on_ending", None)
            if ending is not None:
                ending(span)

    def on_end(self, span: Any) -> None:
        for processor in self.each:
            processor.on_end(span)

    def shutdown(self) -> None:
        """Each in turn."""
        for processor in self.each:
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Each in turn, within one timeout for all; False where one could not, or none was left."""
        deadline_ns = monotonic_ns() + timeout_millis * 1_000_000
        flushed = True
        for processor in self.each:
            left_ms = (deadline_ns - monotonic_ns()) // 1_000_000
            if left_ms <= 0:
                return False
            if processor.force_flush(left_ms) is False:
                flushed = False
        return flushed
