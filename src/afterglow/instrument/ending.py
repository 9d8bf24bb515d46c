"""How a traced program ends: its exit status is known, and its spans are written.

Python waits for threads and runs what is registered to run at exit; that is where the tracer
closes. Two ways out pass that by: SIGTERM, which kills a program that has no handler for it, and
os._exit. For the first there is a handler of ours, which the program does not see.
"""

from __future__ import annotations

import _thread
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["Main", "handle_sigterm", "status_of"]

_PACKAGE: Final = Path(__file__).resolve().parent.parent
#: Code of ours that takes locks, or waits.
_LOCKING: Final = tuple(
    str(_PACKAGE / name) for name in ("write", "store", "sink", "wiring.py", "handover.py")
)
#: A death by SIGTERM waits at most so long for the last spans.
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.01
_ATTEMPTS: Final = 500


def status_of(exception: BaseException | None) -> int:
    """What a process ends with when this leaves its main module; -2 for a death by SIGINT."""
    if exception is None:
        return 0
    if isinstance(exception, SystemExit):
        if exception.code is None:
            return 0
        return exception.code & 0xFF if isinstance(exception.code, int) else 1
    return -signal.SIGINT if isinstance(exception, KeyboardInterrupt) else 1


class Main:
    """Stands round the main module's code, and tells how it was left."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tell(status_of(exception))


def handle_sigterm(before_death: Callable[[int], None]) -> None:
    """On SIGTERM call `before_death(-15)`, then die of it, as if there were no handler.

    `signal.getsignal` and `signal.signal` go on telling the program that there is none; one that
    it sets replaces ours.
    """
    plain_signal, plain_getsignal = signal.signal, signal.getsignal
    if plain_getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    attempts = 0

    def die(signum: int, frame: FrameType | None) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < _ATTEMPTS and _is_in_ours(frame) and _elsewhere(_raise_again, 0.0):
            return  # what it holds locked must be let go first
        plain_signal(signal.SIGTERM, signal.SIG_DFL)
        _elsewhere(lambda: before_death(-signum), _PATIENCE_S)
        os.kill(os.getpid(), signum)

    def shown(handler: Any) -> Any:
        return signal.SIG_DFL if handler is die else handler

    @functools.wraps(plain_signal)
    def set_signal(signalnum: Any, handler: Any) -> Any:
        if handler is signal.SIG_DFL and signalnum == signal.SIGTERM:
            handler = die
        return shown(plain_signal(signalnum, handler))

    @functools.wraps(plain_getsignal)
    def getsignal(signalnum: Any) -> Any:
        return shown(plain_getsignal(signalnum))

    plain_signal(signal.SIGTERM, die)
    signal.signal, signal.getsignal = set_signal, getsignal


def _is_in_ours(frame: FrameType | None) -> bool:
    """Whether the signal came while the main thread was writing or closing."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_LOCKING):
            return True
        frame = frame.f_back
    return False


def _raise_again() -> None:
    pause = _thread.allocate_lock()
    pause.acquire()
    pause.acquire(timeout=_PAUSE_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _elsewhere(function: Callable[[], object], patience_s: float) -> bool:
    """Run it in a thread, wait so long for it; False where no thread can be had.

    The main thread has been interrupted anywhere, perhaps with a lock of `threading`'s own in
    its hands: what needs that must not be waited for without end. So not by `threading`.
    """
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            function()
        finally:
            done.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        return False
    done.acquire(timeout=patience_s)
    return True
