"""When the program has ended: have its journals folded, by a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from afterglow.instrument.carried import Carried

__all__ = ["close_run"]


def close_run(carried: Carried, spawn: Callable[..., int]) -> None:
    """Run what was carried for the end, and wait for it. Failing that, whoever reads folds."""
    if not carried.closing:
        return
    path = os.pathsep.join(filter(None, (carried.home, os.environ.get("PYTHONPATH"))))
    # Nothing that lies about in the current directory shall be imported in place of ours.
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    streams: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    if not _stderr_is_terminal():  # the program's output, in a file or a pipe, is its own
        streams.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
    command = carried.closing
    try:
        os.waitpid(spawn(command[0], command, environment, file_actions=streams), 0)
    except (OSError, KeyboardInterrupt):
        return


def _stderr_is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False
