"""How a command ends when it cannot do as asked: one line, one exit status, no traceback.

docs/exit-codes.md is the table for people.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from afterglow.errors import AfterglowError, FlusherError

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "PIPE_CLOSED",
    "PROBLEMS",
    "SERVICE_ENDED",
    "UNFORESEEN",
    "ended_by",
    "say",
    "status_of",
]

#: What was looked at has a problem (books that do not balance).
PROBLEMS: Final = 1
#: Wrong usage, bad input, a file that cannot be used.
BAD_INPUT: Final = 2
#: A service that cannot go on: its processes do not start, or die again and again.
SERVICE_ENDED: Final = 3
#: A bug of ours.
UNFORESEEN: Final = 70
#: Ctrl-C, and a reader of our output that went away: as the shell counts their signals.
INTERRUPTED: Final = 128 + 2
PIPE_CLOSED: Final = 128 + 13


def say(message: str) -> None:
    """One line on stderr, `afterglow: ...`; nothing when there is no stderr to write to."""
    line = " ".join(message.split())
    safe = line.encode("utf-8", "backslashreplace").decode()
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe)
    try:
        encoding = sys.stderr.encoding or "utf-8"
        text = shown.encode(encoding, "backslashreplace").decode(encoding)
        sys.stderr.write(f"afterglow: {text}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return


def ended_by(error: BaseException) -> int:
    """Say what an exception means to the person at the terminal; the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, AfterglowError):
        say(str(error))
        return status_of(error)
    if isinstance(error, OSError):
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            _forget_stdout()
            return PIPE_CLOSED
        if error.errno in (errno.ENOSPC, errno.EIO):
            _forget_stdout()
        where = f"{error.filename}: " if error.filename is not None else ""
        say(f"{where}{error.strerror or error}")
        return BAD_INPUT
    if sys.flags.dev_mode:
        raise error
    say(
        f"we did not foresee this, please report it: {type(error).__name__}: {error} "
        "(python -X dev -m afterglow ... shows where)"
    )
    return UNFORESEEN


def status_of(error: AfterglowError) -> int:
    """The exit status of an error of ours."""
    return SERVICE_ENDED if isinstance(error, FlusherError) else BAD_INPUT


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter complains at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        return
