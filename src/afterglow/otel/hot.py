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
from afterglow.model.flat import Where, spread
from afterglow.otel.api import EMPTY, context_variable, trace_api
from afterglow.otel.around import Around, wrapped
from afterglow.otel.begin import Begin
from afterglow.otel.inherited import ROOT, Scope
from afterglow.otel.not_recorded import make_left_out
from afterglow.otel.processors import Processors
from afterglow.otel.sampling import EVERY, Choice
from afterglow.otel.span import SIMPLE, Span
from afterglow.otel.turns import Turns
from afterglow.record.context import current
from afterglow.record.hot import ThreadLocal, task_probe
from afterglow.record.identity import identity

__all__ = ["HotPath", "make_hot_path"]

_INTERNAL = trace_api.SpanKind.INTERNAL


class HotPath(NamedTuple):
    """What the tracers of a provider share.

    One class of spans for all of them: the interpreter remembers where a class has its
    attributes, for one class at each place in the code.
    """

    of: Callable[[Scope], tuple[Callable[..., Any], Callable[..., Any]]]
    after_fork: Callable[[], None]


def make_hot_path(
    scope_: Scope, begin: Begin, processors: Processors, choice: Choice, *, plain_ids: bool
) -> HotPath:
    """The span classes of a provider's tracers, of which `scope_` is one; `processors` may grow.

    Roots and children whose ids are ours and whom the sampler lets through unasked begin the
    short way; all others by `begin`.
    """
    core = scope_.core
    get, set_, reset = context_variable.get, context_variable.set, context_variable.reset
    now = monotonic_ns
    is_tracked = gc.is_tracked
    native = current.get
    watching = processors.each
    registry = core.registry
    handover = core.handover
    flat = handover.flat
    extend = flat.extend
    modules = sys.modules
    plain_children = plain_ids and choice.plain_children and scope_.innermost is None
    leaves_out = plain_ids and choice.leaves_out
    bound = choice.root_bound if plain_ids and core.base is None else None
    some = bound is not None and bound < EVERY
    drops = plain_ids and choice.drops
    rule = choice.rule
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
        __slots__ = ()

        def end(self, end_time: int | None = None) -> None:
            end_ns = now()
            if (
                end_time is not None
                or watching
                or self.details is not None
                or self.end_ns is not None
            ):
                return end_slowly(self, end_ns, end_time)
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
                        self.scope.internal
                        if self._kind is _INTERNAL
                        else self.scope.extra(self._kind),
                    )
                )
            else:
                hand_over(self, end_ns)
            return None

        def set_attribute(self, key: str, value: Any) -> None:
            attributes = self._attributes
            if (
                self.end_ns is None
                and type(value) in SIMPLE
                and type(key) is str
                and key
                and len(attributes) < room
                and unbounded_text
            ):
                if key in attributes:
                    del attributes[key]  # the one set last counts as the newest
                attributes[key] = value
            else:
                set_slowly(self, key, value)

    class CurrentSpan(LiveSpan):
        """Begins and becomes current with `with`, or around each call of a function."""

        __slots__ = ()

        def __enter__(self) -> Any:
            parent = get()
            if parent is empty:
                if bound is None or native() is not None:
                    return enter_slowly(self)
                self.trace = self.span_id = span_id = next_id()
                if some and (not bound or spread(span_id) >= bound):
                    return enter_left_out(self, Left().root(span_id))
                self.parent_id = 0
                self.inherited = root
            elif isinstance(parent, dict) or not plain_children:
                return enter_slowly(self)
            else:
                if not parent.sampled or (rule and parent.scope.rule is not rule):
                    return enter_below(self, parent)
                self.trace = parent.trace
                self.parent_id = parent.span_id
                self.inherited = parent.inherited
                self.span_id = span_id = next_id()
                if watching:
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
            if watching:
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
            if watching or self.details is not None or self.end_ns is not None:
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
                        self.scope.internal
                        if self._kind is _INTERNAL
                        else self.scope.extra(self._kind),
                    )
                )
            else:
                hand_over(self, end_ns)
            return None

        def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
            """`@tracer.start_as_current_span("name")`: a span of its own for each call."""
            name, kind, attributes = self._name, self._kind, self._attributes
            start = self.scope.start

            def again() -> Any:
                return start(name, None, kind, attributes)

            return wrapped(function, again)

    # --- the rarer turns --------------------------------------------------------------------

    turns = Turns(core, processors, where_now)
    end_slowly, leave, run, hand_over = turns.end, turns.leave, turns.run, turns.hand_over
    set_slowly, set_bounded = Span.set_attribute, Span._set_bounded

    def enter_slowly(span: CurrentSpan) -> Any:
        found = run(begin(span, None, span._attributes, (), None), None)
        if found is not span:
            return enter_left_out(span, found)
        span.token = set_(span)
        return found

    def enter_below(span: CurrentSpan, parent: Any) -> Any:
        left = left_out_below(parent)
        return enter_slowly(span) if left is None else enter_left_out(span, left)

    def enter_left_out(span: CurrentSpan, left: Any) -> Any:
        span.end_ns = span.span_id = 0  # never ran: nothing to hand over, or to warn of
        span.token = set_(left)
        return left

    def left_out_below(parent: Any) -> Any:
        """A span left out as its parent is, where the sampler need not be asked; else None."""
        if not leaves_out or parent.sampled or (rule and parent.scope.rule is not rule):
            return None
        return Left().place()

    def begin_left_out() -> Any:
        span = LiveSpan()
        span.scope = scope_
        span._name, span._kind, span.details, span.end_ns = "", _INTERNAL, None, None
        return begin(span, None, None, (), None)

    Left, CurrentLeft = make_left_out(scope_, begin_left_out)
    begin.left_out = Left

    # --- what the tracer calls --------------------------------------------------------------

    def of(scope: Scope) -> tuple[Callable[..., Any], Callable[..., Any]]:
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
            if drops and context is None:
                return Left().place()
            span = LiveSpan()
            span.scope = scope
            span._name = name
            span._kind = kind
            span.details = span.end_ns = None
            if not record_exception or not set_status_on_exception:
                span.on_exception = (record_exception, set_status_on_exception)
            parent = get()
            if context is not None or links or start_time is not None:
                return run(begin(span, context, attributes, links, start_time), context)
            if parent is empty:
                if bound is None or native() is not None:
                    return run(begin(span, None, attributes, (), None), None)
                span.trace = span.span_id = span_id = next_id()
                span.parent_id = 0
                span.inherited = root
                if some and (not bound or spread(span_id) >= bound):
                    return Left().root(span_id)
            elif isinstance(parent, dict) or not plain_children:
                return run(begin(span, None, attributes, (), None), None)
            else:
                if not parent.sampled or (rule and parent.scope.rule is not rule):
                    return left_out_below(parent) or run(
                        begin(span, None, attributes, (), None), None
                    )
                span.trace = parent.trace
                span.parent_id = parent.span_id
                span.inherited = parent.inherited
                span.span_id = span_id = next_id()
                if watching:
                    span._parent_context = parent.get_span_context()
            span._attributes = copy = {**attributes} if attributes else {}
            if copy and (is_tracked(copy) or len(copy) > room or not unbounded_text):
                span._attributes = {}
                set_bounded(span, attributes)
            if loop_of is None and "_asyncio" not in modules:
                span.where = local.where
            else:
                span.where = (probe or see_asyncio())(local.where)
            registry[span_id] = span
            span.start_ns = now()
            if watching:
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
            if drops:
                return CurrentLeft()
            span = CurrentSpan()
            span.scope = scope
            span._name = name
            span._kind = kind
            span.details = span.end_ns = None
            if not attributes:
                span._attributes = {}
                return span
            # A dict of simple values is not tracked by the collector: one C call tells.
            copy = {**attributes}
            span._attributes = copy
            if is_tracked(copy) or len(copy) > room or not unbounded_text:
                span._attributes = {}
                set_bounded(span, attributes)
            return span

        scope.start = start_as_current_span
        return start_span, start_as_current_span

    def after_fork() -> None:
        nonlocal next_id, local
        next_id = identity.next_id
        local = ThreadLocal()

    return HotPath(of, after_fork)
