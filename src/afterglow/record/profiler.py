"""The Profiler face: the names and behaviour of ferret-io's profiler, over a Tracer.

    profiler = Profiler("afterglow.db", run_id="import-42")

    @profiler.measure(lambda args: f"load:{args[0]}")
    async def load(user): ...

    with profiler.measure("parse", tags={"kind": "csv"}) as span:
        span.annotate(rows=12)

Nothing here raises into the program: a name function that fails names "unknown_dynamic_span",
a tag that cannot be written becomes text.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any, Protocol, TypeVar

from afterglow.clock import monotonic_ns
from afterglow.ledger import Ledger
from afterglow.model.clean import safe_str
from afterglow.record.context import current
from afterglow.record.span import Span
from afterglow.record.span_model import SpanModel, core_of, keywords_of, text_of
from afterglow.record.wrap import wrapped

__all__ = ["Measurement", "Profiler", "ProfilerSpan", "SpanModel", "SpanTracer"]

#: A name, or what makes one from a call.
Name = str | Callable[..., str]
Function = TypeVar("Function", bound=Callable[..., Any])

_UNKNOWN = "unknown_dynamic_span"


class SpanTracer(Protocol):
    """What a Profiler needs of a tracer."""

    run_id: str
    span: Callable[..., Span]
    start_span: Callable[..., Span]

    def flush(self) -> bool: ...

    def close(self) -> None: ...

    def ledger(self) -> Ledger: ...


class Profiler:
    """Measures named operations of one run.

    Spans that start inside another, in this context, are its children; `start` begins a span
    that others do not become children of. What ended is written in the background; `flush`
    waits for it, `close` and the end of the program do so too.
    """

    def __init__(self, tracer: SpanTracer, *, db: Any, scope: str = "") -> None:
        self._tracer = tracer
        self._scope = scope
        #: What this Profiler records into: give it to `Report`.
        self.db = db

    @property
    def run_id(self) -> str:
        """The name of this run, which `Report` asks for."""
        return self._tracer.run_id

    def measure(self, name: Name, tags: Mapping[str, Any] | None = None) -> Measurement:
        """For `with`, `async with`, or as a decorator.

        A callable name gets the positional arguments of each call as one tuple where it
        decorates, and `((), {})` in a `with`.
        """
        return Measurement(self, name, tags)

    def start(self, name: str, tags: Mapping[str, Any] | None = None) -> ProfilerSpan:
        """A span that begins now, to be ended by its `end()`, in any thread."""
        return ProfilerSpan(self, self._begun(text_of(name), **keywords_of(tags)))

    def flush(self) -> None:
        """Wait until all that ended before is written."""
        self._tracer.flush()

    def close(self) -> None:
        """Write all that ended and stop. What ends later is not recorded."""
        self._tracer.close()

    def ledger(self) -> Ledger:
        """The books: recorded = written + dropped (by reason) + in_flight."""
        return self._tracer.ledger()

    def _enter(self, name: str, tags: Mapping[str, Any] | None) -> ProfilerSpan:
        live = self._tracer.span(name, **keywords_of(tags))
        live.__enter__()
        self._set_scope(live)
        return ProfilerSpan(self, live)

    def _begun(self, name: str, /, **tags: Any) -> Span:
        live = self._tracer.start_span(name, **tags)
        self._set_scope(live)
        return live

    def _set_scope(self, live: Span) -> None:
        if self._scope and (extra := live._extra()) is not None:
            extra.scope = self._scope


class ProfilerSpan:
    """One running or ended operation."""

    __slots__ = ("_ended_ns", "_live", "_status", "profiler")

    def __init__(self, profiler: Profiler, live: Span) -> None:
        self.profiler = profiler
        self._live = live
        self._ended_ns: int | None = None  # monotonic
        self._status: str | None = None  # what the program said; None: nothing yet

    @property
    def model(self) -> SpanModel:
        """What is known of the span: a view, made when asked for."""
        return SpanModel(self)

    def annotate(self, **tags: Any) -> None:
        """Add tags. After the end they are ignored."""
        self._live.set_attributes(tags)

    def end(self, status: str | None = None) -> None:
        """End it, the first time. Without a status: what was set before, else "ok"."""
        if self._ended_ns is None:
            self._end(monotonic_ns(), status)

    def _end(self, now_ns: int, status: str | None = None) -> None:
        if status is not None:
            self._set_status(status)
        self._ended_ns = now_ns
        core = core_of(self._live)
        if core is not None:
            core.finish(self._live, now_ns)

    def _set_status(self, status: str) -> None:
        status = text_of(status)
        # "ok" is what a span without a status comes to, and costs nothing to write.
        if status != "ok" or self._status is not None:
            extra = self._live._extra()
            if extra is not None:
                extra.status = "error" if status == "error" else "unset"
                extra.status_text = "" if status in ("ok", "error") else status
        self._status = status

    def _fail(self, exception: BaseException) -> None:
        self.annotate(error=safe_str(exception), error_type=type(exception).__name__)
        self._set_status("error")
        self._live.escaped(exception)


class Measurement:
    """What `measure` gives: a context manager of both kinds, and a decorator.

    It may be entered any number of times, also at once from several threads and tasks.
    """

    __slots__ = ("_entered", "_name", "_profiler", "_tags")

    def __init__(self, profiler: Profiler, name: Name, tags: Mapping[str, Any] | None) -> None:
        self._profiler = profiler
        self._name = name
        self._tags = tags
        # Spans entered and not left. Changed by single list operations, which are atomic.
        self._entered: list[ProfilerSpan] = []

    def __enter__(self) -> ProfilerSpan:
        span = self._profiler._enter(_called(self._name, (), {}), self._tags)
        self._entered.append(span)
        return span

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        now_ns = monotonic_ns()
        span = self._leaving()
        if span is not None:
            _leave(span, exception, now_ns)

    def _leaving(self) -> ProfilerSpan | None:
        """The span that this `with` entered: of several, the one that is current here."""
        with contextlib.suppress(IndexError, ValueError):
            if len(self._entered) > 1:
                mine = current.get()
                for span in reversed(self._entered):
                    if span._live is mine:
                        self._entered.remove(span)
                        return span
            return self._entered.pop()
        return None

    async def __aenter__(self) -> ProfilerSpan:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exception, traceback)

    # --- as a decorator -----------------------------------------------------------------

    def __call__(self, function: Function) -> Function:
        """`function` with a span round each call; a generator's lasts until it is done."""
        return self._decorated(function)  # type: ignore[no-any-return]

    def _decorated(self, function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(self._decorated(function.__func__))
        if not callable(function):
            raise TypeError("measure() takes a name: write @profiler.measure('name')")
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = self._name
            maker: Any = SimpleNamespace(start_span=self._profiler._begun)
            return wrapped(
                maker,
                function,
                lambda args, kwargs: _called(name, args),
                keywords_of(self._tags),
            )
        return self._function(function)

    def _function(self, function: Callable[..., Any]) -> Any:
        enter, name, tags = self._profiler._enter, self._name, self._tags

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            span = enter(_called(name, args), tags)
            try:
                result = function(*args, **kwargs)
            except BaseException as exception:
                _leave(span, exception, monotonic_ns())
                raise
            _leave(span, None, monotonic_ns())
            return result

        return wrapper

    def _coroutine(self, function: Callable[..., Any]) -> Any:
        enter, name, tags = self._profiler._enter, self._name, self._tags

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            span = enter(_called(name, args), tags)
            try:
                result = await function(*args, **kwargs)
            except BaseException as exception:
                _leave(span, exception, monotonic_ns())
                raise
            _leave(span, None, monotonic_ns())
            return result

        return wrapper


def _leave(span: ProfilerSpan, exception: BaseException | None, now_ns: int) -> None:
    live = span._live
    # Left in another context than it was entered in, perhaps, or recording is off.
    with contextlib.suppress(ValueError, RuntimeError, TypeError, AttributeError):
        current.reset(live.token)
    live.token = None  # or chains of tasks would keep each other's contexts alive
    if exception is not None:
        span._fail(exception)
    if span._ended_ns is None:  # the program may have ended it inside the block
        span._end(now_ns)


def _called(name: Name, *arguments: Any) -> str:
    """The name, asked for with these arguments if it is a function."""
    if callable(name):
        try:
            name = name(*arguments)
        except Exception:  # noqa: BLE001  recording never raises into the program
            return _UNKNOWN
    return text_of(name)
