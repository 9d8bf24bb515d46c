"""SIGTERM and SIGINT of a service: the first asks it to stop, a second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, Final

__all__ = ["AT_ONCE", "Bell", "stop_signals"]

#: The exit code of a service that a second signal ended (docs/exit-codes.md).
AT_ONCE: Final = 130


class Bell:
    """Wakes the thread that waits for it; any thread and any signal handler may ring."""

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

    def close(self) -> None:
        self._woken.close()
        self._wake.close()


@contextmanager
def stop_signals(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked` at the first signal; in the main thread. The second ends the process.

    What was acknowledged is in a journal or in Redis: ending at once loses nothing.
    """
    before: dict[signal.Signals, Any] = {}
    heard = 0

    def stop(_sign: int, _frame: object) -> None:
        nonlocal heard
        heard += 1
        if heard > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"afterglow: ended at once by a second signal\n")
            os._exit(AT_ONCE)
        asked()

    try:
        for sign in (signal.SIGTERM, signal.SIGINT):
            before[sign] = signal.signal(sign, stop)
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
