"""`afterglow serve --check`: whether a service with these settings would start. Changes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from afterglow.collecting.reach import reachable
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.sinks import projects_of, stores_in_file
from afterglow.errors import AfterglowError, StoreError
from afterglow.ingest.access import Access, address_of, check_open
from afterglow.ingest.listening import listening
from afterglow.ingest.tls import tls_files
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
    yield from _faces(settings)
    for name, look in reachable(settings):
        yield _looked(name, look)


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


# --- what is listened at ------------------------------------------------------------------


def _faces(settings: ServeSettings) -> Iterator[Checked]:
    ingest = settings.ingest
    yield _looked("who may send", lambda: _access(settings))
    for name, text in (("http", ingest.http), ("grpc", ingest.grpc)):
        yield _looked(name, partial(_port, settings, name, text))


def _access(settings: ServeSettings) -> str:
    tls = "with TLS" if tls_files(settings.ingest) is not None else "without TLS"
    if Access(settings.ingest).has_tokens:
        return f"whoever has a token, {tls}"
    return f"whoever reaches the address, {tls}"


def _port(settings: ServeSettings, name: str, text: str) -> str:
    address = address_of(name, text)
    if address is None:
        return "off"
    check_open(name, address, settings.ingest, Access(settings.ingest))
    listening(address).close()
    return f"{address} is free" if address.port else f"{address.host}, any port that is free"
