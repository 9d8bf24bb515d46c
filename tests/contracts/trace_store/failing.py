"""A back end that can be held up or made to fail at the writes of a flush."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from afterglow.keep.backend import Backend, Bond, Changes, Found, Totals, Written
from afterglow.keep.store import TraceStore

__all__ = ["Gate", "Stopping", "held_flush", "payload_of", "put"]


class Stopping:
    """Passes everything on; `before` and `after` are called round each `apply`.

    A delegate, not a back end of its own: what it does not stop is the real thing.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.before: Callable[[Changes], None] = lambda _changes: None
        self.after: Callable[[Changes], None] = lambda _changes: None
        self.applied: list[Changes] = []
        #: Called once behind the next look at rows, before anybody sees what it found.
        self.once_read: Callable[[], None] | None = None

    def apply(self, changes: Changes, now_ns: int) -> Written:
        self.before(changes)
        written = self._backend.apply(changes, now_ns)
        self.applied.append(changes)
        self.after(changes)
        return written

    def _found(self) -> None:
        work, self.once_read = self.once_read, None
        if work is not None:
            work()

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        found = self._backend.read(ids, links=links)
        self._found()
        return found

    def bond(self, a: str, b: str) -> Bond:
        found = self._backend.bond(a, b)
        self._found()
        return found

    def totals(self) -> Totals:
        found = self._backend.totals()
        self._found()
        return found

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


def held_flush(
    store: TraceStore, stopping: Stopping, *, after: bool
) -> tuple[Gate, threading.Thread]:
    """A flush in a thread of its own that stands before or behind its transaction."""
    gate = Gate()
    setattr(stopping, "after" if after else "before", gate.pass_through)
    thread = threading.Thread(target=store.flush)
    thread.start()
    assert gate.reached.wait(30)
    setattr(stopping, "after" if after else "before", lambda _changes: None)
    return gate, thread


def put(store: TraceStore, payload: Any, trace_id: str = "x", **more: Any) -> str:
    """Store one of a kind."""
    return store.store(payload, kind="semantic", trace_id=trace_id, **more)


def payload_of(store: TraceStore, trace_id: str) -> Any:
    """None if it is not there."""
    entry = store.get(trace_id)
    return None if entry is None else entry.payload
