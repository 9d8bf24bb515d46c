"""A flusher process: a loop round `Flusher.step()`, and a pipe to the supervisor.

It stops when the supervisor says so, and when the supervisor is gone. SIGINT and SIGTERM, which a
terminal or an init system sends to the whole group, are the supervisor's to answer.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from afterglow.clock import monotonic_ns
from afterglow.counts import Counted
from afterglow.errors import AfterglowError, MissingExtraError, SettingError
from afterglow.flush.flusher import FlushCounts, Flusher
from afterglow.model.clean import safe_str

__all__ = ["Assign", "Beat", "Failed", "MakeFlusher", "Stop", "run_flusher"]

#: Makes the flusher of a process, with its buffer and sink: (its number) -> flusher. It is
#: carried into the process by pickle.
MakeFlusher = Callable[[int], Flusher]

_BEAT_S: Final = 0.25


class Beat(NamedTuple):
    """A sign of life; `shards` are those of what is in hand."""

    shards: frozenset[int] | None
    counts: FlushCounts
    counted: Counted


class Failed(NamedTuple):
    """Why the process ends; `for_ever`: another one would end likewise."""

    reason: str
    for_ever: bool


class Assign(NamedTuple):
    """Take from these shards from now on."""

    shards: frozenset[int]


class Stop(NamedTuple):
    """Finish the page in hand, give back the others, end."""


def run_flusher(make: MakeFlusher, number: int, pipe: Connection, stop_s: float) -> None:
    """The body of the process; it leaves by SystemExit(1) when something failed.

    Told to stop, it goes on for `stop_s` at most with what it has taken.
    """
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    try:
        flusher = make(number)
        try:
            _loop(flusher, pipe)
        except BaseException:
            flusher.close()
            raise
        flusher.close(stop_s)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        return  # nobody is there to flush for; what was in hand has gone back
    except Exception as error:  # noqa: BLE001  said in one line, by the supervisor
        _say(pipe, Failed(_reason(error), isinstance(error, SettingError | MissingExtraError)))
        sys.exit(1)


def _loop(flusher: Flusher, pipe: Connection) -> None:
    due_ns = monotonic_ns()
    beat_ns = 0
    while True:
        now_ns = monotonic_ns()
        if now_ns >= beat_ns:
            pipe.send(Beat(flusher.shards, flusher.counts, flusher.counted()))
            beat_ns = now_ns + round(_BEAT_S * 1e9)
        wait_ns = max(min(due_ns, beat_ns) - now_ns, 0)
        if pipe.poll(wait_ns / 1e9):
            match pipe.recv():
                case Assign(shards):
                    flusher.assign(shards)
                    beat_ns = 0  # the supervisor waits to hear that it was done
                case Stop():
                    return
        elif monotonic_ns() >= due_ns:
            due_ns = monotonic_ns() + round(flusher.step() * 1e9)


def _reason(error: Exception) -> str:
    text = " ".join(safe_str(error).split())
    return text if isinstance(error, AfterglowError) else f"{type(error).__name__}: {text}"


def _say(pipe: Connection, message: Failed) -> None:
    try:
        pipe.send(message)
    except OSError:
        return
