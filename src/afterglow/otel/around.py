"""`with` and decorators for spans that do not begin the short way."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

from afterglow.otel.api import trace_api

_INVALID = trace_api.INVALID_SPAN

__all__ = ["Around", "Nothing", "wrapped"]


def wrapped(function: Callable[..., Any], again: Callable[[], Any]) -> Callable[..., Any]:
    """The function with a span of its own round each call; `again()` makes the span."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with again():
                return await function(*args, **kwargs)

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with again():
            return function(*args, **kwargs)

    return called


class Around:
    """Starts a span when entered and makes it current, by the API's own `use_span`."""

    __slots__ = ("_end", "_record", "_start", "_status", "_use")

    def __init__(
        self, start: Callable[[], Any], end_on_exit: bool, record: bool, status: bool
    ) -> None:
        self._start = start
        self._end = end_on_exit
        self._record = record
        self._status = status
        self._use: Any = None

    def __enter__(self) -> Any:
        self._use = trace_api.use_span(self._start(), self._end, self._record, self._status)
        return self._use.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        result: bool | None = self._use.__exit__(exc_type, exception, traceback)
        return result

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`@tracer.start_as_current_span("name", ...)`: a span of its own for each call."""
        options = (self._start, self._end, self._record, self._status)
        return wrapped(function, lambda: Around(*options))


class Nothing:
    """Where nothing is recorded: the invalid span, at the least cost that `with` can have."""

    __slots__ = ()

    def __enter__(self) -> Any:
        return _INVALID

    def __exit__(self, exc_type: object, exception: object, traceback: object) -> None:
        return None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function
