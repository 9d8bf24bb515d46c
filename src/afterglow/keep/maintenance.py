"""Loops that look after a store: each one thread round one step."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

import msgspec

from afterglow.clock import Clock
from afterglow.errors import AfterglowError

__all__ = ["Chore", "Maintenance", "to_stderr"]

_AGAIN_NS = 60_000_000_000


class Chore(msgspec.Struct, frozen=True):
    """What is done every so often; `interval_s` of 0: never."""

    name: str
    interval_s: float
    step: Callable[[], object]


def to_stderr(message: str) -> None:
    """Print one line where a person may see it; never raises."""
    try:
        print(f"afterglow: {message}", file=sys.stderr, flush=True)
    except Exception:  # noqa: BLE001  a closed or missing stderr is the program's own affair
        return


class Maintenance:
    """Owns the threads. What goes wrong in one is counted by the store, and said once a minute."""

    def __init__(
        self,
        chores: Sequence[Chore],
        clock: Clock,
        report: Callable[[str], None],
        failed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._report = report
        self._failed = failed
        self._stop = threading.Event()
        self._said_ns: dict[str, int] = {}
        self._threads = [
            threading.Thread(
                target=self._loop, args=(chore,), name=f"afterglow-{chore.name}", daemon=True
            )
            for chore in chores
            if chore.interval_s > 0
        ]

    def start(self) -> None:
        """Begin; the first step of each is an interval from now."""
        for thread in self._threads:
            thread.start()

    def _loop(self, chore: Chore) -> None:
        while not self._clock.wait(self._stop, chore.interval_s):
            self.step(chore)

    def step(self, chore: Chore) -> None:
        """Do it once; the next one is another chance, whatever came of this."""
        try:
            chore.step()
        except AfterglowError as error:
            self._say(chore.name, str(error))
        except Exception as error:  # noqa: BLE001  a thread that nobody waits for must not just end
            self._say(chore.name, f"{type(error).__name__}: {error}")

    def _say(self, name: str, message: str) -> None:
        self._failed()
        now = self._clock.monotonic_ns()
        said = self._said_ns.get(name)
        if said is None or now - said >= _AGAIN_NS:
            self._said_ns[name] = now
            self._report(f"{name} of the trace store: {message}")

    def stop(self) -> None:
        """End the threads, each after the step that it is in."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()
