"""Threads and executor jobs start under the span that started them.

asyncio copies the context into each task by itself; threads (before Python's own
`thread_inherit_context`) and thread pools do not. Only our variable is carried, not the whole
context: the program's other context variables stay as they would be without us.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

from afterglow.record.context import current

__all__ = ["carried", "follow_from", "follow_threads"]

Result = TypeVar("Result")

_around: Callable[[], Any] = current.get
#: While a pool starts a worker thread, which must not keep a span for its whole life.
_is_pool: ContextVar[bool] = ContextVar("afterglow_is_pool", default=False)


def follow_from(around: Callable[[], Any]) -> None:
    """What starts a thread or a job is found by `around()` from now on (record/tracer.py, join)."""
    global _around  # noqa: PLW0603  one for the process, as the patches are
    _around = around


def carried(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function`, to run elsewhere under the span that is current here and now."""
    parent = _around()
    if parent is None:
        return function

    @functools.wraps(function)
    def under_parent(*args: Any, **kwargs: Any) -> Result:
        token = current.set(parent)
        try:
            return function(*args, **kwargs)
        finally:
            current.reset(token)

    return under_parent


def follow_threads() -> None:
    """Patch `Thread.start` and `ThreadPoolExecutor.submit`, once a process."""
    if hasattr(threading.Thread.start, "__afterglow__"):
        return
    plain_start = threading.Thread.start
    plain_submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    @functools.wraps(plain_start)
    def start(self: threading.Thread) -> None:
        parent = None if _is_pool.get() else _around()
        if parent is not None:
            run = self.run

            def run_under_parent() -> None:
                self.__dict__.pop("run", None)  # break the circle thread -> run -> thread
                current.set(parent)  # the thread's own context: it ends with the thread
                run()

            self.run = run_under_parent  # type: ignore[method-assign]
        plain_start(self)

    @functools.wraps(plain_submit)
    def submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if _around() is None:
            return plain_submit(self, fn, *args, **kwargs)
        job = carried(fn)
        token = _is_pool.set(True)
        try:
            return plain_submit(self, job, *args, **kwargs)
        finally:
            _is_pool.reset(token)

    start.__afterglow__ = True  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]
