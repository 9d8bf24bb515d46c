"""`@tracer.wrap`: a span round each call of a function, coroutine, generator or async generator.

A generator's span is current only while the generator's own code runs: at each `yield` the
consumer gets its own context back. So closing it elsewhere finds nothing to detach.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

from afterglow.model.clean import safe_str
from afterglow.record.context import current
from afterglow.record.span import Span

__all__ = ["Namer", "is_namer", "wrapped"]

#: Names a call: (positional arguments, keyword arguments) -> name.
Namer = Callable[[tuple[Any, ...], dict[str, Any]], str]


class SpanMaker(Protocol):
    """What wrapping needs of a tracer."""

    def span(self, name: str, /, **attributes: Any) -> Span: ...

    def start_span(self, name: str, /, **attributes: Any) -> Span: ...

    def site(self, name: str, /, **attributes: Any) -> Callable[[], Span]: ...


def is_namer(candidate: Callable[..., Any]) -> bool:
    """`wrap(lambda args, kwargs: ...)` names calls; any other callable is to be wrapped.

    Known by its being a lambda of exactly these two parameters.
    """
    code = getattr(candidate, "__code__", None)
    return (
        getattr(candidate, "__name__", "") == "<lambda>"
        and code is not None
        and code.co_varnames[: code.co_argcount] == ("args", "kwargs")
    )


def wrapped(
    tracer: SpanMaker, function: Any, name: str | Namer | None, attributes: dict[str, Any]
) -> Any:
    """`function` with a span round each call; its kind, name and signature stay."""
    if isinstance(function, staticmethod | classmethod):
        inner = wrapped(tracer, function.__func__, name, attributes)
        return type(function)(inner)
    if not callable(name) and not _is_generator(function):
        fixed = _fixed_name(function, name)
        return _of_one_name(tracer.site(fixed, **attributes), function)
    name_of = _name_of(function, name)
    if inspect.iscoroutinefunction(function):
        return _coroutine(tracer, function, name_of, attributes)
    if inspect.isasyncgenfunction(function):
        return _async_generator(tracer, function, name_of, attributes)
    if inspect.isgeneratorfunction(function):
        return _generator(tracer, function, name_of, attributes)
    return _function(tracer, function, name_of, attributes)


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _fixed_name(function: Any, name: object) -> str:
    if name is None:
        return getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if isinstance(name, str) else safe_str(name)


def _of_one_name(make: Callable[[], Span], function: Callable[..., Any]) -> Any:
    """The usual case, without asking for a name at each call."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with make():
                return await function(*args, **kwargs)

        return coroutine

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with make():
            return function(*args, **kwargs)

    return wrapper


def _name_of(function: Any, name: str | Namer | None) -> Namer:
    fallback = _fixed_name(function, None)
    if callable(name):
        namer = name

        def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
            try:
                return namer(args, kwargs)
            except Exception:  # noqa: BLE001  recording never raises into the program
                return fallback

        return named
    fixed = _fixed_name(function, name)
    return lambda args, kwargs: fixed


def _function(
    tracer: SpanMaker, function: Callable[..., Any], name_of: Namer, attributes: dict[str, Any]
) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with tracer.span(name_of(args, kwargs), **attributes):
            return function(*args, **kwargs)

    return wrapper


def _coroutine(
    tracer: SpanMaker, function: Callable[..., Any], name_of: Namer, attributes: dict[str, Any]
) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with tracer.span(name_of(args, kwargs), **attributes):
            return await function(*args, **kwargs)

    return wrapper


def _generator(
    tracer: SpanMaker, function: Callable[..., Any], name_of: Namer, attributes: dict[str, Any]
) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        span = tracer.start_span(name_of(args, kwargs), **attributes)
        resume: Callable[[], Any] = functools.partial(next, inner)
        try:
            while True:
                token = current.set(span)
                try:
                    item = resume()
                except StopIteration as stop:
                    return stop.value
                finally:
                    current.reset(token)
                try:
                    sent = yield item
                except GeneratorExit:
                    resume = inner.close
                    raise
                except BaseException as thrown:  # noqa: BLE001  it is the generator's to handle
                    resume = functools.partial(inner.throw, thrown)
                else:
                    resume = functools.partial(inner.send, sent)
        except GeneratorExit:
            token = current.set(span)
            try:
                inner.close()
            finally:
                current.reset(token)
            raise
        except BaseException as exception:
            span.escaped(exception)
            raise
        finally:
            span.end()

    return wrapper


def _async_generator(
    tracer: SpanMaker, function: Callable[..., Any], name_of: Namer, attributes: dict[str, Any]
) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        span = tracer.start_span(name_of(args, kwargs), **attributes)
        resume: Callable[[], Any] = inner.__anext__
        try:
            while True:
                token = current.set(span)
                try:
                    item = await resume()
                except StopAsyncIteration:
                    return
                finally:
                    _reset(token)
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001  it is the generator's to handle
                    resume = functools.partial(inner.athrow, thrown)
                else:
                    resume = functools.partial(inner.asend, sent)
        except GeneratorExit:
            token = current.set(span)
            try:
                await inner.aclose()
            finally:
                _reset(token)
            raise
        except BaseException as exception:
            span.escaped(exception)
            raise
        finally:
            span.end()

    return wrapper


def _reset(token: Any) -> None:
    # The loop's shutdown closes an async generator in a task of its own.
    with contextlib.suppress(ValueError):
        current.reset(token)
