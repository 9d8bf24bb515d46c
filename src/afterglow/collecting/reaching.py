"""Whether a buffer elsewhere can be reached: asked in a thread, so that who asks us never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.errors import AfterglowError

__all__ = ["Reaching"]

_EVERY_S: Final = 2.0


class Reaching:
    """A thread round one `step`; `problem` is what is wrong now, None while it answers."""

    def __init__(
        self,
        ask: Callable[[], object],
        report: Callable[[str], None],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._ask = ask
        self._report = report
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="afterglow reaching", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Stop; a question that is under way is waited for so long."""
        self._stop.set()
        self._thread.join(timeout_s)

    def step(self) -> None:
        """Ask once, and say when that has changed. Never raises."""
        before = self.problem
        try:
            self._ask()
        except (AfterglowError, OSError) as error:
            self.problem = str(error)
            if before is None:
                self._report(f"not ready: {error}")
        else:
            self.problem = None
            if before is not None:
                self._report("ready: the buffer answers again")

    def _run(self) -> None:
        while not self._clock.wait(self._stop, _EVERY_S):
            self.step()
