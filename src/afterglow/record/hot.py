"""The hot path: what `with tracer.span(...)` runs, made anew for each tracer.

Everything it touches is bound in the closure of `make_span_class`, for a closure cell costs
half of an attribute. Each line was measured (benchmarks/caller.py); the order matters where a
comment says so. No lock, no I/O, no wait: tests/record/test_promises.py fails if one comes in.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from afterglow.clock import monotonic_ns
from afterglow.model.flat import Where
from afterglow.record.context import current
from afterglow.record.core import Core
from afterglow.record.identity import identity
from afterglow.record.sampler import Sampler
from afterglow.record.span import Span

__all__ = ["HotPath", "ThreadLocal", "make_hot_path", "task_probe"]


class HotPath(NamedTuple):
    """What a tracer gets."""

    span: Callable[..., Span]  # span(name, /, **attributes): begins when it is entered
    site: Callable[[str, dict[str, Any]], Callable[[], Span]]  # a maker for one place in the code
    started: Callable[..., Span]  # start_span(name, /, **attributes)
    after_fork: Callable[[], None]
    sampler: Sampler | None
    join: Callable[[Callable[[], Any]], None]


class ThreadLocal(threading.local):
    """Who this thread is; made when it first asks."""

    def __init__(self) -> None:
        self.where: Where = (threading.get_native_id(), threading.current_thread().name)


def task_probe() -> Callable[[Where], Where]:
    """A function that adds the running asyncio task's name, once asyncio is there."""
    from asyncio import tasks
    from asyncio.events import _get_running_loop

    # The table that current_task() looks into (3.11 to 3.13); later versions have a C function.
    table = getattr(tasks, "_current_tasks", None)
    current_task: Callable[[Any], Any] = table.get if table is not None else tasks.current_task

    def probe(where: Where) -> Where:
        loop = _get_running_loop()
        task = None if loop is None else current_task(loop)
        return where if task is None else (where[0], where[1], task.get_name())

    return probe


def make_hot_path(core: Core, sampler: Sampler | None) -> HotPath:
    """The span class of one tracer, and the functions that make its spans."""
    get: Callable[[], Any] = current.get
    set_, reset = current.set, current.reset
    now = monotonic_ns
    is_tracked = gc.is_tracked
    registry, extras = core.registry, core.extras
    handover = core.handover
    flat = handover.flat
    extend = flat.extend
    put = handover.put
    refuse = handover.refuse
    not_recorded = handover.not_recorded
    owned = core.owned
    modules = sys.modules

    # Replaced after a fork, at close, when asyncio comes, or when another face of the recorder
    # joins (then `get` finds its spans, too): cells, not constants.
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

    class LiveSpan(Span):
        __slots__ = ()

        def __enter__(self) -> LiveSpan:
            parent = get()
            if parent is None:
                self.trace = self.span_id = span_id = next_id()
                self.parent_id = 0
                if decide is not None and not decide(self):
                    return self
            else:
                self.trace = trace = parent.trace
                if trace is None:
                    return follow(self, parent)
                self.parent_id = parent.span_id
                self.span_id = span_id = next_id()
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
            if exception is not None:
                self.escaped(exception)
            span_id = self.span_id
            try:
                del registry[span_id]  # the claim: who deletes it, hands it over
            except KeyError:
                return
            attributes = self.attributes
            # A dict of plain values is not tracked by the collector (a dict that may hold a
            # container is): one C call tells, instead of a look at each value.
            if attributes and is_tracked(attributes):
                attributes = owned(attributes)
            if len(flat) < limit:
                extend(
                    (
                        self.trace,
                        span_id,
                        self.parent_id,
                        self.name,
                        self.start_ns,
                        end_ns,
                        attributes,
                        self.where,
                        extras.pop(span_id, None) if extras else None,
                    )
                )
            else:
                refuse(
                    (
                        self.trace,
                        span_id,
                        self.parent_id,
                        self.name,
                        self.start_ns,
                        end_ns,
                        attributes,
                        self.where,
                        extras.pop(span_id, None),
                    )
                )

    class StartedSpan(LiveSpan):
        """Begun by start_span: `with` makes it current and ends it, but does not begin it.

        `begin` and `end` are `__enter__` and `__exit__` without the context: written out again,
        for a call between would cost a tenth of the whole.
        """

        __slots__ = ()

        def begin(self) -> None:
            parent = get()
            if parent is None:
                self.trace = self.span_id = span_id = next_id()
                self.parent_id = 0
                if decide is not None and not decide(self):
                    return leave(self)
            else:
                self.trace = trace = parent.trace
                if trace is None:
                    follow(self, parent)
                    return leave(self)
                self.parent_id = parent.span_id
                self.span_id = span_id = next_id()
            if loop_of is None and "_asyncio" not in modules:
                self.where = local.where
            else:
                self.where = (probe or see_asyncio())(local.where)
            registry[span_id] = self
            self.token = None
            self.start_ns = now()
            return None

        def end(self, end_ns: int | None = None) -> None:
            now_ns = now()
            try:
                del registry[self.span_id]
            except KeyError:
                return
            if end_ns is not None:
                now_ns = max(self.start_ns, end_ns - core.wall_offset_ns)
            put(
                (
                    self.trace,
                    self.span_id,
                    self.parent_id,
                    self.name,
                    self.start_ns,
                    now_ns,
                    owned(self.attributes) if is_tracked(self.attributes) else self.attributes,
                    self.where,
                    extras.pop(self.span_id, None) if extras else None,
                )
            )

        def __enter__(self) -> StartedSpan:
            self.token = set_(self)
            return self

    LiveSpan.core = core

    # --- the rarer turns ------------------------------------------------------------------

    def leave_out(span: Span, reason: str, trace: int | bytes) -> LiveSpan:
        span.trace = None
        span.lost = (reason, trace)
        not_recorded[reason].add()
        span.token = set_(span)
        return span  # type: ignore[return-value]

    def follow(span: Span, parent: Any) -> LiveSpan:
        """The trace is not recorded: nor is this span of it."""
        span.span_id = span.parent_id = parent.span_id
        return leave_out(span, *parent.lost)

    def decide_root(span: Span) -> bool:
        """Whether a local root is recorded; puts it under the process's own caller if any."""
        base = core.base
        if base is not None:
            span.parent_id = base.span_id
            span.trace = base.trace
            if base.trace is None:
                leave_out(span, *base.lost)
                return False
        if sampler is not None:
            trace = span.trace if span.trace is not None else span.span_id
            reason = sampler.refusal(trace, follow_ratio=base is None)
            if reason is not None:
                leave_out(span, reason, trace)
                return False
        return True

    decide: Callable[[Span], bool] | None = (
        decide_root if sampler is not None or core.base is not None else None
    )

    def leave(span: Span) -> None:
        """A span that was started is not current, whether recorded or not."""
        reset(span.token)
        span.token = None

    def span(name: str, /, **attributes: Any) -> Span:
        made = LiveSpan()
        made.name = name
        made.attributes = attributes
        return made

    def started(name: str, /, **attributes: Any) -> Span:
        made = StartedSpan()
        made.name = name
        made.attributes = attributes
        made.begin()
        return made

    def site(name: str, attributes: dict[str, Any]) -> Callable[[], Span]:
        copy = attributes.copy

        def make() -> Span:
            made = LiveSpan()
            made.name = name
            made.attributes = copy()
            return made

        return make

    def after_fork() -> None:
        nonlocal next_id, local
        next_id = identity.next_id
        local = ThreadLocal()

    def join(around: Callable[[], Any]) -> None:
        nonlocal get
        get = around

    return HotPath(span, site, started, after_fork, sampler, join)
