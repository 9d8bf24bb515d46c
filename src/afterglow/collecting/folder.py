"""The folder of a service: what must survive a restart, and one service at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from afterglow.errors import StoreError

__all__ = ["Folder", "folder_of"]


def folder_of(database: Path) -> Path:
    """The folder of a service that keeps spans in this file."""
    return database.with_name(f"{database.name}.collect")


class Folder:
    """Made if need be, and locked until `close`, or the end of the process however it comes.

    `intake/` holds the journal of what was acknowledged, `out/` queues and books of sinks. Raises
    StoreError where it cannot be made or written, and where another service has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.intake = path / "intake"
        self.out = path / "out"
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{path}: {error.strerror}; the service keeps there what must survive a restart: "
                "name a folder with [serve] folder or AFTERGLOW_SERVE_FOLDER"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            by = os.read(self._lock, 20).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise StoreError(
                f"{path} is in use by another service{f' (pid {by})' if by else ''}: stop it, or "
                "name another database with --db"
            ) from None
        # Who it is is only for people: a full disk must not keep a service from starting.
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def note_elsewhere(self) -> None:
        """What is delivered now is not all in the file: the audit must not look for it there."""
        with suppress(OSError):
            (self.path / "elsewhere").touch()

    def close(self) -> None:
        """Let another service have it; may be called twice."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)
