"""SIGTERM and SIGINT of a service: the first asks it to stop, a second ends it at once.

The system gives a signal to any thread of the process, and Python's handlers run in the main one,
which may be waiting for anything by then. So a thread of its own listens to what Python writes at
once, in whichever thread the signal came (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, Final

__all__ = ["AT_ONCE", "Bell", "stop_signals"]

#: The exit code of a service that a second signal ended (docs/exit-codes.md).
AT_ONCE: Final = 130

_SIGNS: Final = (signal.SIGTERM, signal.SIGINT)


class Bell:
    """Wakes the thread that waits for it; any thread may ring."""

    def __init__(self) -> None:
        self._woken, self._wake = Pipe(duplex=False)

    def ring(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._wake.send_bytes(b"!")

    @property
    def has_rung(self) -> bool:
        return self._woken.poll()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it rings; False when `timeout_s` passed before."""
        return bool(wait([self._woken], timeout_s))


@contextmanager
def stop_signals(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked`, in a thread, at the first signal; the second ends the process.

    For the main thread. What was acknowledged is in a journal or in Redis: ending at once loses
    nothing.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before: dict[signal.Signals, Any] = {}
    woke = signal.set_wakeup_fd(writing)
    listening = threading.Thread(
        target=_listen, args=(reading, asked), name="afterglow signals", daemon=True
    )
    listening.start()
    try:
        for sign in _SIGNS:
            before[sign] = signal.signal(sign, lambda _sign, _frame: None)
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
        signal.set_wakeup_fd(woke)
        os.close(writing)
        listening.join()
        os.close(reading)


def _listen(reading: int, asked: Callable[[], None]) -> None:
    heard = 0
    while signs := os.read(reading, 64):
        for sign in signs:
            if sign not in _SIGNS:
                continue
            heard += 1
            if heard == 1:
                asked()
                continue
            with contextlib.suppress(OSError):
                os.write(2, b"afterglow: ended at once by a second signal\n")
            os._exit(AT_ONCE)
