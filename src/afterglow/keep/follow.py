"""`afterglow keep --follow`: a loop round one step, beside a program that runs for months."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.config import RetentionConfig
from afterglow.errors import NotFoundError, StoreError
from afterglow.keep.keeper import Pass
from afterglow.keep.opening import open_keeper
from afterglow.store.schema import journals_of

__all__ = ["Follower"]

_COMPLAIN_AGAIN_NS: Final = 60 * 1_000_000_000


class Follower:
    """Makes a pass every so often, over the file at `place`, or a `project` where that is a URL.

    It opens it anew each time, so a file may be moved or deleted meanwhile, or come later, and a
    server go away; a full disk or a busy file is reported once a minute, and tried again. `done` is
    called with each pass that did something, `complain` with one line.
    """

    def __init__(
        self,
        place: Path | str,
        config: RetentionConfig,
        *,
        project: str = "default",
        clock: Clock | None = None,
        done: Callable[[Pass], None] = lambda _: None,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._place = place
        self._project = project
        self._config = config
        self._clock = clock or SystemClock()
        self._done = done
        self._complain = complain
        self._mended = False
        self._complained: tuple[str, int] | None = None

    def step(self) -> Pass | None:
        """One pass; None where there is nothing to look at yet, or it failed and was reported."""
        place = self._place
        if isinstance(place, Path) and not place.exists() and not journals_of(place).is_dir():
            self._report(f"{place} is not there yet: waiting for a program to record into it")
            return None
        try:
            with open_keeper(place, self._project, self._config, clock=self._clock) as keeper:
                result = keeper.step(mend=not self._mended)
        except (StoreError, NotFoundError) as error:
            self._report(f"{error}; trying again")
            return None
        self._mended = True
        self._complained = None
        for problem in result.folded.problems:
            self._report(problem)
        if not result.idle:
            self._done(result)
        return result

    def run(self, stop: threading.Event) -> None:
        """Step until `stop` is set; the step in hand is finished."""
        while not stop.is_set():
            self.step()
            self._clock.wait(stop, self._config.keep_interval_s)

    def _report(self, line: str) -> None:
        now_ns = self._clock.monotonic_ns()
        last = self._complained
        if last is None or last[0] != line or now_ns - last[1] >= _COMPLAIN_AGAIN_NS:
            self._complained = (line, now_ns)
            self._complain(line)
