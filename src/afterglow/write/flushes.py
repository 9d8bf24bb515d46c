"""Those who wait for flush()."""

from __future__ import annotations

import threading

__all__ = ["Flush", "Flushes"]


class Flush:
    """One call of flush(): how much must be taken from the queue until it is answered."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.answered = threading.Event()
        self.done = False

    def answer(self, done: bool) -> None:
        self.done = done
        self.answered.set()


class Flushes:
    """Asked by any thread, answered by the one that writes. No lock: each line is one step."""

    def __init__(self) -> None:
        self._open: list[Flush] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    def ask(self, waiting: int) -> Flush:
        """A new call, when `waiting` spans waited."""
        flush = Flush(waiting)
        self._open.append(flush)
        return flush

    def asked(self) -> list[Flush]:
        """Those that a batch taken from now on counts for."""
        return list(self._open)

    def answer_done(self, *, empty: bool) -> None:
        """Nothing is in delivery: what was taken for these is settled."""
        for flush in self.asked():
            if empty or flush.waiting <= 0:
                self._open.remove(flush)
                flush.answer(True)

    def fail(self) -> None:
        """The sink cannot now."""
        while self._open:
            self._open.pop(0).answer(False)
