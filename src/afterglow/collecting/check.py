"""`afterglow serve --check`: whether a service with these settings would start. Changes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.sinks import projects_of, stores_in_file
from afterglow.errors import AfterglowError, StoreError
from afterglow.store.schema import verify

__all__ = ["Checked", "check"]


class Checked(NamedTuple):
    """One thing that was looked at; `message` says what was found, or what to do."""

    name: str
    ok: bool
    message: str


def check(settings: ServeSettings) -> Iterator[Checked]:
    """Look at all that the service needs, one after the other; none is left out for another.

    It connects to servers and asks; nothing is written, made or sent.
    """
    if stores_in_file(settings):
        yield _looked("database", lambda: _database(settings.database))
    yield _looked("folder", lambda: _folder(settings.folder))
    if not settings.is_embedded:
        yield _looked("buffer", lambda: _redis(settings))


def _looked(name: str, look: Callable[[], str]) -> Checked:
    """One line, whatever looking raises."""
    try:
        return Checked(name, True, look())
    except AfterglowError as error:
        return Checked(name, False, " ".join(str(error).split()))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Checked(name, False, f"{where}{error.strerror or error}")


def _database(path: Path) -> str:
    if not path.exists():
        _may_write_in(path.parent)
        return f"{path} will be made"
    for _project, file in projects_of(path):
        verify(file)
        if not os.access(file, os.W_OK):
            raise StoreError(f"{file} cannot be written: see to its permissions")
    _may_write_in(path.parent)
    return f"{path} is there"


def _folder(path: Path) -> str:
    if not path.exists():
        _may_write_in(_nearest(path))
        return f"{path} will be made"
    _may_write_in(path)
    with suppress(FileNotFoundError):
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            by = os.read(lock, 20).decode("ascii", "replace").strip()
            raise StoreError(f"{path} is in use by a service that runs (pid {by})") from None
        finally:
            os.close(lock)
    return f"{path} is there"


def _nearest(path: Path) -> Path:
    """The folder above that is there."""
    return next((above for above in path.absolute().parents if above.exists()), Path("/"))


def _may_write_in(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreError(f"{folder} is no directory: name a database elsewhere (--db)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write in {folder}: name a database elsewhere (--db)")


def _redis(settings: ServeSettings) -> str:
    from afterglow import buffering

    return buffering.looked_at(settings.buffer)


def port_is_free(host: str, port: int) -> str:
    """Whether somebody could listen there. Raises OSError."""
    if port == 0:
        return f"{host}: any free port"
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _name, address in found:
        with closing(socket.socket(family, kind, protocol)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(1)
    return f"{host}:{port} is free"
