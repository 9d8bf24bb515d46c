"""Retention beside a service: one thread, each database in turn (keep/follow.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from afterglow.clock import Clock, SystemClock
from afterglow.config import RetentionConfig
from afterglow.keep.follow import Follower
from afterglow.keep.retention import Pass
from afterglow.write.complaints import Complaints

__all__ = ["Retaining"]


class Retaining:
    """A loop round `step()`: a pass over each place, then a rest of `keep_interval_s`.

    `places` says which there are now, and the project of each: a file, or the URL of a server. A
    project's comes with its first span.
    """

    def __init__(
        self,
        places: Callable[[], Iterable[tuple[str, Path | str]]],
        config: RetentionConfig,
        *,
        clock: Clock | None = None,
        report: Callable[[str], None],
    ) -> None:
        self._places = places
        self._config = config
        self._clock = clock or SystemClock()
        self._report = report
        self._complaints = Complaints(report, self._clock)
        self._followers: dict[tuple[str, Path | str], Follower] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="afterglow retention", daemon=True)
        self.passes = 0
        #: Spans that were forgotten since the start.
        self.forgotten_spans = 0

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> None:
        """Stop after the step in hand; waits for so long."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def step(self) -> None:
        """One pass over each place that is there."""
        try:
            places = list(self._places())
        except Exception as error:  # noqa: BLE001  a server that is away comes back
            self._complaints.say_error("places", "retention has to wait", error)
            return
        for project, place in places:
            if self._stop.is_set():
                return
            follower = self._followers.get((project, place))
            if follower is None:
                follower = Follower(
                    place, self._config, project=project, clock=self._clock, done=self._done,
                    complain=self._report,
                )  # fmt: skip
                self._followers[project, place] = follower
            try:
                follower.step()
            except Exception as error:  # noqa: BLE001  the others' turn comes all the same
                # A URL is not said: it may hold a password.
                where = place if isinstance(place, Path) else f"project {project}"
                self._complaints.say_error(project, f"retention of {where} failed", error)
        self.passes += 1

    def _done(self, result: Pass) -> None:
        self.forgotten_spans += result.forgotten.spans

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()
            self._clock.wait(self._stop, self._config.keep_interval_s)
