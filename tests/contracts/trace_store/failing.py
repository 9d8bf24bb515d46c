"""A back end that can be held up or made to fail at the writes of a flush."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from afterglow.keep.backend import Backend, Changes, Written

__all__ = ["Gate", "Stopping"]


class Stopping:
    """Passes everything on; `before` and `after` are called round each `apply`.

    A delegate, not a back end of its own: what it does not stop is the real thing.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.before: Callable[[Changes], None] = lambda _changes: None
        self.after: Callable[[Changes], None] = lambda _changes: None
        self.applied: list[Changes] = []

    def apply(self, changes: Changes, now_ns: int) -> Written:
        self.before(changes)
        written = self._backend.apply(changes, now_ns)
        self.applied.append(changes)
        self.after(changes)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class Gate:
    """Holds up a thread at `pass_through` until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self, _changes: Changes) -> None:
        self.reached.set()
        assert self.open.wait(30)
