"""Ends the servers of a process that is gone, however it went, and removes their folder.

    python3 scripts/guard.py FOLDER PARENT       reads its orders from standard input

Whoever starts servers holds the other end of the pipe. An order is a line: `+ PID SIGNAL` to
watch over a process (the signal ends it at once), `- PID` to forget it, `end`. The end of the pipe
is the end of its holder: `kill -9` closes it too. A process of its own, because a thread or a
handler would not outlive that, and a death signal by the kernel would be sent already when one
*thread* of the holder ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple


def born(pid: int) -> str | None:
    """When a process started (in the kernel's ticks), None if it is gone or a zombie."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else rest[18]


class Watched(NamedTuple):
    pid: int
    born: str | None
    signal: int

    def running(self) -> bool:
        """Whether it is there; another process that got its number is not it."""
        return self.born is not None and born(self.pid) == self.born


def end(watched: Collection[Watched]) -> None:
    """End them all; those that do not obey within 5 s by SIGKILL."""
    for sign in (None, signal.SIGKILL):
        for one in filter(Watched.running, watched):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGCONT)
                os.kill(one.pid, sign or one.signal)
        until = time.monotonic() + 5
        while any(map(Watched.running, watched)) and time.monotonic() < until:
            time.sleep(0.01)


def orders(parent: int) -> Iterator[list[str]]:
    """The words of each order, until `end`, the end of the pipe, or that of the parent: forked
    children of it may hold the pipe open for longer than it lives."""
    begun = b""
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        read = os.read(0, 65_536)
        if not read:
            return
        *lines, begun = (begun + read).split(b"\n")
        for line in lines:
            if line == b"end":
                return
            yield line.decode().split()


def main() -> None:
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C is for whoever holds the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watched: dict[int, Watched] = {}
    for order, *numbers in orders(parent):
        pid = int(numbers[0])
        if order == "+":
            watched[pid] = Watched(pid, born(pid), int(numbers[1]))
        else:
            watched.pop(pid, None)
    end(watched.values())
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
