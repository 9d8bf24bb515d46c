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
from typing import Any, TypeVar

from afterglow.record.context import current

__all__ = ["carried", "follow_threads"]

Result = TypeVar("Result")


def carried(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function`, to run elsewhere under the span that is current here and now."""
    parent = current.get()
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
        parent = current.get()
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
        outer = current.get()
        if outer is None:
            return plain_submit(self, fn, *args, **kwargs)
        job = carried(fn)
        # A worker thread that this call starts must not keep our span for its whole life.
        token = current.set(None)
        try:
            return plain_submit(self, job, *args, **kwargs)
        finally:
            current.reset(token)

    start.__afterglow__ = True  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]
