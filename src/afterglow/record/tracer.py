"""The tracer: what makes spans, in the program."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Protocol, TypeVar, overload

from afterglow.ledger import Ledger
from afterglow.record.context import current, remote_parent
from afterglow.record.core import Core
from afterglow.record.follow import carried
from afterglow.record.hot import HotPath, make_hot_path
from afterglow.record.sampler import Sampler
from afterglow.record.span import NoopSpan, Span
from afterglow.record.wrap import Namer, is_namer, wrapped

__all__ = ["SpanWriter", "Tracer"]

Function = TypeVar("Function", bound=Callable[..., Any])


class SpanWriter(Protocol):
    """Who takes the spans from the hand-over; write/writer.py is the real one."""

    def flush(self) -> bool: ...

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


class Tracer:
    """Makes spans and hands them over when they end.

    Nothing here takes a lock, does I/O or waits, but for `flush`, `close` and `ledger`. Nothing
    here raises into the program, but for the constructor (SettingError) and wrong use of
    Python (a name that is missing).
    """

    #: `span(name, /, **attributes)`: a span to enter with `with` or `async with`; it becomes a
    #: child of the current one, and the current one, when it is entered.
    span: Callable[..., Span]
    #: `start_span(name, /, **attributes)`: a span that begins now and ends with `end()`, in any
    #: thread. It is a child of the current span but does not become current.
    start_span: Callable[..., Span]

    def __init__(self, core: Core, writer: SpanWriter, sampler: Sampler | None) -> None:
        self._core = core
        self._writer = writer
        self._sampler = sampler
        self._hot: HotPath | None = None
        self._around: Callable[[], Any] = current.get
        if core.config.enabled:
            self._hot = make_hot_path(core, sampler)
            self.span = self._hot.span
            self.start_span = self._hot.started
        else:
            off = NoopSpan()
            off.name, off.attributes, off.trace, off.span_id = "", {}, None, 0
            self.span = self.start_span = lambda name, /, **attributes: off

    def site(self, name: str, /, **attributes: Any) -> Callable[[], Span]:
        """A maker of spans of one name: `with maker():` costs less than `with span(name):`."""
        if self._hot is None:
            return functools.partial(self.span, name)
        return self._hot.site(name, attributes)

    @property
    def core(self) -> Core:
        """What the spans share, for other faces of the recorder (otel/)."""
        return self._core

    @property
    def refusal(self) -> Callable[[int | bytes], str | None] | None:
        """Why a trace that begins here is not recorded; None where all are."""
        return None if self._sampler is None else self._sampler.refusal

    def join(self, around: Callable[[], Any]) -> None:
        """From now on new spans become children of what `around()` finds.

        That is a span of ours, a RemoteParent, or whatever else has `trace`, `span_id` and
        `headers()`: the current span of another face of this recorder (otel/). None: a root.
        """
        self._around = around
        if self._hot is not None:
            self._hot.join(around)

    # --- functions ------------------------------------------------------------------------

    @overload
    def wrap(self, function: Function, /) -> Function: ...

    @overload
    def wrap(
        self, name: str | Namer | None = None, /, **attributes: Any
    ) -> Callable[[Function], Function]: ...

    def wrap(self, function: Any = None, /, **attributes: Any) -> Any:
        """A span round each call: `@wrap`, `@wrap("name")`, `@wrap(lambda args, kwargs: ...)`.

        For functions, methods, coroutines, generators and async generators. A name function
        that raises gives the function's own name.
        """
        if callable(function) and not is_namer(function) and not attributes:
            return wrapped(self, function, None, {})
        if isinstance(function, staticmethod | classmethod):
            return wrapped(self, function, None, attributes)
        return lambda inner: wrapped(self, inner, function, attributes)

    # --- context ----------------------------------------------------------------------------

    @property
    def current_span(self) -> Span | None:
        """The span that a new one would become a child of; None if it is in another process."""
        span = current.get()
        return span if isinstance(span, Span) else None

    @contextlib.contextmanager
    def use(self, span: Span) -> Iterator[Span]:
        """Make a span from `start_span` current for a while, without ending it."""
        token = current.set(span)
        try:
            yield span
        finally:
            with contextlib.suppress(ValueError):
                current.reset(token)

    def carry(self, function: Function) -> Function:
        """`function`, to be called elsewhere, under the span that is current now."""
        return carried(function)  # type: ignore[return-value]

    def inject(self, carrier: MutableMapping[str, str]) -> None:
        """Put the current span into headers (`traceparent`, `tracestate`); none, if none."""
        carrier.update(self._headers())

    def environment(self) -> dict[str, str]:
        """The same for a child process: TRACEPARENT and TRACESTATE."""
        return {name.upper(): value for name, value in self._headers().items()}

    def _headers(self) -> dict[str, str]:
        span = self._around()
        if span is not None and hasattr(span, "headers"):
            found: dict[str, str] = span.headers()
            return found
        if not isinstance(span, Span) or not span.traceparent:
            return self._core.base.headers() if self._core.base is not None else {}
        headers = {"traceparent": span.traceparent}
        state = self._core.trace_states.get(span.trace)
        if state:
            headers["tracestate"] = state
        return headers

    @contextlib.contextmanager
    def continue_trace(
        self, carrier: Mapping[str, Any] | Iterable[tuple[Any, Any]]
    ) -> Iterator[None]:
        """Spans in this block are children of the caller whose headers these are.

        Headers without a valid `traceparent` begin a new trace.
        """
        parent = remote_parent(carrier, parent_based=self._core.config.parent_based)
        if parent is not None and self._hot is not None:
            self._core.admit(parent, self._hot.sampler)
        token = current.set(parent)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                current.reset(token)

    # --- the end of it ------------------------------------------------------------------------

    def flush(self) -> bool:
        """Wait until all that ended before is written; False if that could not be."""
        return self._writer.flush()

    def close(self) -> None:
        """Write all that ended, stop the thread. Spans that end later count as `closed`."""
        self._writer.close()

    def ledger(self) -> Ledger:
        """The books: recorded = written + dropped (by reason) + in_flight."""
        return self._core.handover.ledger()

    def after_fork(self) -> None:
        """In a forked child (called by wiring.py's hook)."""
        self._core.after_fork()
        if self._hot is not None:
            self._hot.after_fork()
        self._writer.after_fork()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
