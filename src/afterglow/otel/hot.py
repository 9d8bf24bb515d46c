"""The hot path of the OpenTelemetry face: made anew for each tracer, bound in closures.

The same habits as record/hot.py: what is touched is a closure cell, the order matters where a
comment says so, and nothing takes a lock, does I/O or waits.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from afterglow.clock import monotonic_ns
from afterglow.model.flat import Where
from afterglow.otel.api import EMPTY, context_variable, trace_api
from afterglow.otel.around import Around, wrapped
from afterglow.otel.begin import Begin
from afterglow.otel.inherited import ROOT, Scope
from afterglow.otel.processors import Processors
from afterglow.otel.sampling import Choice
from afterglow.otel.span import Span, logger
from afterglow.record.context import current
from afterglow.record.hot import ThreadLocal, task_probe
from afterglow.record.identity import identity

__all__ = ["HotPath", "make_hot_path"]

_INTERNAL = trace_api.SpanKind.INTERNAL


class HotPath(NamedTuple):
    """What a tracer gets."""

    start_span: Callable[..., Any]
    start_as_current_span: Callable[..., Any]
    after_fork: Callable[[], None]


def make_hot_path(
    scope_: Scope, begin: Begin, processors: Processors, choice: Choice, *, plain_ids: bool
) -> HotPath:
    """The span classes of one tracer; `processors` may grow later.

    Roots and children whose ids are ours and whom the sampler lets through unasked begin the
    short way; all others by `begin`.
    """
    core = scope_.core
    get, set_, reset = context_variable.get, context_variable.set, context_variable.reset
    now = monotonic_ns
    is_tracked = gc.is_tracked
    native = current.get
    registry = core.registry
    handover = core.handover
    flat = handover.flat
    extend = flat.extend
    put = handover.put
    owned = core.owned
    modules = sys.modules
    extras = scope_.extras
    internal = extras[_INTERNAL]
    plain_roots = plain_ids and choice.plain_roots
    plain_children = plain_ids and choice.plain_children
    room = scope_.attribute_limit
    unbounded_text = scope_.text_limit is None
    empty, root = EMPTY, ROOT

    # Replaced after a fork, at close, or when asyncio comes: cells, not constants.
    limit = handover.limit
    next_id = identity.next_id
    local = ThreadLocal()
    loop_of: Callable[[], Any] | None = None
    probe: Callable[[Where], Where] | None = None

    def see_limit(now_in_force: int) -> None:
        nonlocal limit
        limit = now_in_force

    handover.tell_limit(see_limit)

    def see_asyncio() -> Callable[[Where], Where]:
        nonlocal loop_of, probe
        probe = task_probe()
        loop_of = modules["_asyncio"]._get_running_loop
        return probe

    def where_now() -> Where:
        if loop_of is None and "_asyncio" not in modules:
            return local.where
        return (probe or see_asyncio())(local.where)

    class LiveSpan(Span):
        scope = scope_

        def end(self, end_time: int | None = None) -> None:
            end_ns = now()
            if self.end_ns is not None:
                logger.warning("Calling end() on an ended span.")
                return
            if end_time is not None:
                self.more().end_time = end_time
                end_ns = max(self.start_ns, end_time - core.wall_offset_ns)
            finish(self, end_ns)

    class CurrentSpan(LiveSpan):
        """Begins and becomes current with `with`, or around each call of a function."""

        def __enter__(self) -> Any:
            parent = get()
            if parent is empty:
                if not plain_roots or core.base is not None or native() is not None:
                    return enter_slowly(self)
                self.trace = self.span_id = span_id = next_id()
                self.parent_id = 0
                self.inherited = root
            elif isinstance(parent, dict) or not plain_children:
                return enter_slowly(self)
            else:
                if not parent.sampled:
                    return enter_slowly(self)
                self.trace = parent.trace
                self.parent_id = parent.span_id
                self.inherited = parent.inherited
                self.span_id = span_id = next_id()
                if processors:
                    self._parent_context = parent.get_span_context()
            if loop_of is None:
                self.where = local.where
                if "_asyncio" in modules:
                    self.where = see_asyncio()(local.where)
            elif loop_of() is None:
                self.where = local.where
            else:
                self.where = probe(local.where)  # type: ignore[misc]
            registry[span_id] = self
            self.token = set_(self)
            if processors:
                self.start_ns = now()
                processors.on_start(self)
            self.start_ns = now()  # last, so that our own work is not in it
            return self

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exception: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            end_ns = now()
            try:  # noqa: SIM105  contextlib.suppress would cost as much as the rest
                reset(self.token)
            except (ValueError, RuntimeError, TypeError, AttributeError):
                pass  # left in another context than it was entered in, or twice
            # A chain of tasks would keep each other's contexts alive through their tokens.
            self.token = None
            if exception is not None and isinstance(exception, Exception) and self.end_ns is None:
                self.failed(exception, escaped=False)
            if processors or self.details is not None or self.end_ns is not None:
                return leave(self, end_ns)
            span_id = self.span_id
            try:
                del registry[span_id]  # the claim: who deletes it, hands it over
            except KeyError:
                return None
            self.end_ns = end_ns
            if len(flat) < limit:
                extend(
                    (
                        self.trace,
                        span_id,
                        self.parent_id,
                        self._name,
                        self.start_ns,
                        end_ns,
                        self._attributes,
                        self.where,
                        internal if self._kind is _INTERNAL else extras[self._kind],
                    )
                )
            else:
                hand_over(self, end_ns)
            return None

        def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
            """`@tracer.start_as_current_span("name")`: a span of its own for each call."""
            name, kind, attributes = self._name, self._kind, self._attributes

            def again() -> Any:
                return start_as_current_span(name, None, kind, attributes)

            return wrapped(function, again)

    # --- the rarer turns --------------------------------------------------------------------

    def finish(span: Span, end_ns: int) -> None:
        """End a span, once, whoever asks first."""
        if registry.get(span.span_id) is not span:
            return
        if processors:
            processors.on_ending(span)
        if registry.pop(span.span_id, None) is None:
            return
        span.end_ns = end_ns
        if span.sampled:
            hand_over(span, end_ns)
        else:
            handover.not_recorded["sampled_out"].add()
        if processors:
            processors.on_end(span)

    def hand_over(span: Span, end_ns: int) -> None:
        span.settle()
        details = span.details
        extra = extras[span._kind]
        if details is not None:
            extra = details.extra(extra, core.wall_offset_ns)
        put(
            (
                span.trace,
                span.span_id,
                span.parent_id,
                span._name,
                span.start_ns,
                end_ns,
                owned(span._attributes) if is_tracked(span._attributes) else span._attributes,
                span.where,
                extra,
            )
        )

    def leave(span: CurrentSpan, end_ns: int) -> None:
        if span.end_ns is None:
            finish(span, end_ns)
        elif span.span_id:
            logger.warning("Calling end() on an ended span.")

    def run(span: Any, context: Any) -> Any:
        """Set a span going that `begin` has made; NonRecordingSpans have nothing to set going."""
        if isinstance(span, Span):
            span.where = where_now()
            details = span.details
            given = None if details is None else details.start_time
            span.start_ns = now() if given is None else given - core.wall_offset_ns
            registry[span.span_id] = span
            processors.on_start(span, context)
        return span

    def enter_slowly(span: CurrentSpan) -> Any:
        found = run(begin(span, None, span._attributes, (), None), None)
        if found is span:
            span.token = set_(span)
        else:
            span.end_ns = 0  # never ran: nothing to hand over, and nothing to warn of
            span.token = set_(trace_api.set_span_in_context(found))
            span.span_id = 0
        return found

    # --- what the tracer calls --------------------------------------------------------------

    def start_span(
        name: str,
        context: Any = None,
        kind: trace_api.SpanKind = _INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Any:
        """A span that runs from now on, until `end()`; it does not become current."""
        span = LiveSpan()
        span._name = name
        if kind is not _INTERNAL:
            span._kind = kind
        if not record_exception or not set_status_on_exception:
            span.on_exception = (record_exception, set_status_on_exception)
        parent = get()
        if context is not None or links or start_time is not None:
            return run(begin(span, context, attributes, links, start_time), context)
        if parent is empty:
            if not plain_roots or core.base is not None or native() is not None:
                return run(begin(span, None, attributes, (), None), None)
            span.trace = span.span_id = next_id()
            span.parent_id = 0
            span.inherited = root
        elif isinstance(parent, dict) or not plain_children or not parent.sampled:
            return run(begin(span, None, attributes, (), None), None)
        else:
            span.trace = parent.trace
            span.parent_id = parent.span_id
            span.inherited = parent.inherited
            span.span_id = next_id()
            if processors:
                span._parent_context = parent.get_span_context()
        span._attributes = taken(span, attributes) if attributes else {}
        span.where = where_now()
        registry[span.span_id] = span
        span.start_ns = now()
        if processors:
            processors.on_start(span, context)
        return span

    def start_as_current_span(
        name: str,
        context: Any = None,
        kind: trace_api.SpanKind = _INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:
        """A span for `with`, or a decorator of functions and coroutines; it becomes current."""
        if (
            context is not None
            or links
            or start_time is not None
            or not record_exception
            or not set_status_on_exception
            or not end_on_exit
        ):
            on_exception = (record_exception, set_status_on_exception)
            given = (name, context, kind, attributes, links, start_time, *on_exception)
            return Around(lambda: start_span(*given), end_on_exit, *on_exception)
        span = CurrentSpan()
        span._name = name
        if kind is not _INTERNAL:
            span._kind = kind
        span._attributes = taken(span, attributes) if attributes else {}
        return span

    def taken(span: Span, attributes: Any) -> dict[str, Any]:
        """Attributes as the span keeps them: a copy, cleaned where one is not simple.

        A dict of simple values is not tracked by the collector: one C call tells.
        """
        copy = dict(attributes)
        if is_tracked(copy) or len(copy) > room or not unbounded_text:
            span._attributes = {}
            span._set_bounded(attributes)
            return span._attributes
        return copy

    def after_fork() -> None:
        nonlocal next_id, local
        next_id = identity.next_id
        local = ThreadLocal()

    return HotPath(start_span, start_as_current_span, after_fork)
