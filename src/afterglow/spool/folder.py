"""The folder of a spool: who has it, which files are there."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from afterglow.errors import SpoolBusyError, SpoolError, SpoolFullError

__all__ = ["file_name", "let_go", "locked", "numbered_files", "set_aside", "sync_folder", "trouble"]

_NAME = re.compile(r"(\d{12})\.(spool|damaged)")
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def file_name(number: int) -> str:
    """The name of the file of that number."""
    return f"{number:012}.spool"


def numbered_files(folder: Path) -> tuple[list[int], int]:
    """The numbers of the files that are there, ascending, and the greatest that ever was."""
    names = [found for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))]
    there = sorted(int(found[1]) for found in names if found[2] == "spool")
    return there, max((int(found[1]) for found in names), default=0)


def trouble(doing: str, path: Path, error: OSError) -> SpoolError:
    """The error to raise for one of the operating system."""
    if error.errno in _FULL:
        return SpoolFullError(
            f"the disk is full: {doing} {path} failed ({error.strerror}); make room, and it goes on"
        )
    return SpoolError(f"{doing} {path} failed: {error.strerror or error}; see to the disk")


def locked(folder: Path) -> int:
    """Make the folder if need be and hold its lock; returns the descriptor that holds it.

    Raises SpoolBusyError, which names the process that has it, and SpoolError.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise trouble("opening", path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        who = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise trouble("locking", path, error) from error
        raise SpoolBusyError(
            f"{folder} is in use by process {who or 'unknown'}: stop it, or give this one another "
            "folder"
        ) from None
    # Who it is is only for people: a full disk must not keep the spool shut.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def let_go(descriptor: int) -> None:
    """Give the lock back."""
    with suppress(OSError):
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Give a file that cannot be read a name that is no spool file's. Raises OSError."""
    aside = path.with_suffix(".damaged")
    path.rename(aside)
    return aside


def sync_folder(folder: Path) -> None:
    """Names of files that were made or removed survive a power failure. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
