"""Flushers as a service: processes under a supervisor until a signal, or a thread of our own."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

from afterglow.clock import Clock, SystemClock
from afterglow.config import FlushConfig
from afterglow.flush.backoff import back_off_s
from afterglow.flush.flusher import Flusher
from afterglow.flush.supervisor import Supervisor
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["FlusherThread", "serve"]


def serve(supervisor: Supervisor, started: Callable[[], None] = lambda: None) -> None:
    """Run a supervisor until SIGTERM or SIGINT, then stop it; in the main thread.

    `started` is called once all flushers are healthy. Raises FlusherError when they do not
    become so, or when one dies too often; everything has been stopped then.
    """
    woken, wake = Pipe(duplex=False)
    before: dict[signal.Signals, Any] = {}

    def stop(_sign: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            wake.send_bytes(b"stop")

    try:
        for sign in (signal.SIGTERM, signal.SIGINT):
            before[sign] = signal.signal(sign, stop)
        supervisor.start(woken)
        if not woken.poll():
            started()
        while not woken.poll():
            supervisor.step(wake=woken)
    finally:
        supervisor.stop()
        for sign, handler in before.items():
            signal.signal(sign, handler)
        woken.close()
        wake.close()


class FlusherThread:
    """A flusher in a thread of this process, for a buffer that lives in it.

    Whatever `step` raises is reported and tried again: the thread ends with `close` alone.
    """

    def __init__(
        self,
        flusher: Flusher,
        *,
        config: FlushConfig | None = None,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._flusher = flusher
        self._config = config or FlushConfig()
        self._clock = clock or SystemClock()
        self._complaints = Complaints(report, self._clock)
        self._stop = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="afterglow flusher", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it goes on flushing."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish the page in hand, give back the rest, close the sink. May be called twice."""
        self._stop.set()
        self._thread.join()

    def step(self) -> float:
        """One step of the flusher, whatever it raises; seconds to wait."""
        try:
            wait_s = self._flusher.step()
        except Exception as error:  # noqa: BLE001  a flusher that ended would lose by silence
            self._failures += 1
            self._complaints.say_error("flusher", "a flusher failed, and tries again", error)
            return back_off_s(self._config.retry_s, self._failures, 1.0)
        self._failures = 0
        return wait_s

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._clock.wait(self._stop, self.step())
        finally:
            self._flusher.close(self._config.stop_timeout_s)
