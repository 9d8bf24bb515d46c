"""What the servers of tests and benchmarks share: a folder, ports, processes that end with us.

`Place` is a temporary folder with the processes that run in it. Unless it is to stay
(`stays=True`: a server that a command starts and another stops), scripts/guard.py ends them and
removes the folder when we are gone, even by `kill -9`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import debian
from scripts.guard import born

GUARD = Path(__file__).with_name("guard.py")
REMEMBERED = Path(os.environ.get("TEST_SERVERS_STATE") or debian.CACHE / "servers")
"""where commands write down what they started; tests of the commands have a place of their own"""
DEADLINE_S = 60.0
"""how long to wait for a server before it is an error; generous, for machines that are busy"""


class ServerTrouble(RuntimeError):
    """A server did not do what was asked; the message says what it said."""


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Ask again and again until it is so. Raises ServerTrouble, with `what`, after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise ServerTrouble(f"{what}: not after {deadline_s:g} s")
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on.

    They are below those that the kernel gives to clients, so that a server that is started again
    finds its port still free.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


Identity = tuple[int | None, str | None]
"""a process id, and when that process was born"""


@dataclass(frozen=True)
class User:
    """Whom a server runs as."""

    uid: int
    gid: int


def run_as(user: User | None) -> dict[str, Any]:
    """For subprocess: as that user, in no other group; or as ourselves."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


# --- servers that one command starts and another stops --------------------------------------


def remember(name: str, values: dict[str, Any]) -> None:
    """Write down what `remembered` gives back."""
    REMEMBERED.mkdir(parents=True, exist_ok=True)
    (REMEMBERED / f"{name}.json").write_text(json.dumps(values, indent=1))


def remembered(name: str) -> dict[str, Any] | None:
    file = REMEMBERED / f"{name}.json"
    return dict(json.loads(file.read_text())) if file.exists() else None


def forget(name: str) -> None:
    (REMEMBERED / f"{name}.json").unlink(missing_ok=True)


# --- folders and processes ------------------------------------------------------------------


class Place:
    """A temporary folder, and the processes that belong to it."""

    def __init__(self, prefix: str, *, stays: bool = False, folder: Path | None = None) -> None:
        # The path of a Unix socket may have some hundred bytes.
        short = len(tempfile.gettempdir()) < 50
        self.folder = folder or Path(
            tempfile.mkdtemp(prefix=f"{prefix}-", dir=None if short else "/tmp")
        )
        self.stays = stays
        self.owner_pid = os.getpid()
        self._guard: subprocess.Popen[str] | None = None

    def order(self, line: str) -> None:
        """Tell the guard; the first order starts it."""
        if self.stays:
            return
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", GUARD, self.folder, str(self.owner_pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{line}\n")
        self._guard.stdin.flush()

    def close(self) -> None:
        """End what still runs, remove the folder. A forked child of the owner does nothing."""
        if os.getpid() != self.owner_pid:
            return
        if self._guard is not None:
            self.order("end")
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Process:
    """One server process of a place; started by us, or found again by what `identity` said."""

    def __init__(self, place: Place, name: str, identity: Identity = (None, None)) -> None:
        self.place = place
        self.name = name
        self.log = place.folder / f"{name}.log"
        self.pid, self._born = identity
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self,
        program: debian.Found,
        arguments: Sequence[str | Path],
        *,
        user: User | None = None,
        end_by: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start it in its own session (Ctrl-C is for us), with what it says in `log`.

        `end_by` is the signal by which it ends at once and leaves nothing.
        """
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [program.argv0, *arguments],
                executable=program.executable,
                cwd=self.place.folder,
                env={**os.environ, **program.env, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **run_as(user),
            )
        self.pid = self._child.pid
        self._born = born(self.pid)
        self.place.order(f"+ {self.pid} {int(end_by)}")

    def alive(self) -> bool:
        """Whether it runs (a stopped one does)."""
        if self.pid is None:
            return False
        if self._child is not None:
            return self._child.poll() is None
        return self._born is not None and born(self.pid) == self._born

    @property
    def identity(self) -> Identity:
        """By which another process of ours finds it again."""
        return (self.pid, self._born)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal; nothing if it is gone."""
        if self.pid is not None and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def end(self, sign: signal.Signals) -> None:
        """Send it a signal and wait until it is gone."""
        self.send(sign)
        until(lambda: not self.alive(), f"{self.name} ends on {sign.name}")
        if self.pid is not None:
            self.place.order(f"- {self.pid}")
        self.pid = self._born = self._child = None

    def said(self) -> str:
        """The last lines that it wrote, for an error message."""
        if not self.log.exists():
            return "(it wrote nothing)"
        return self.log.read_text(errors="replace")[-1500:]

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready. Raises ServerTrouble, with what it said, if it ended first."""

        def ready_or_gone() -> bool:
            if not self.alive():
                raise ServerTrouble(f"{self.name} ended before it was ready:\n{self.said()}")
            return ready()

        try:
            until(ready_or_gone, what)
        except ServerTrouble as trouble:
            if self.alive():
                raise ServerTrouble(f"{trouble}; it said:\n{self.said()}") from None
            raise
