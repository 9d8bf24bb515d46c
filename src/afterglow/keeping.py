"""Joins trace stores with their back ends: an SQLite file, or a server that a URL names.

A store's parts start in this order: back end, store, maintenance (its threads); `close` stops
them in the mirror of it. What a program leaves open is flushed and closed when it exits.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from afterglow.clock import Clock, SystemClock
from afterglow.config import KeepConfig, ServersConfig, SnapshotConfig, load, room_fields
from afterglow.errors import AfterglowError, SettingError
from afterglow.keep.backend import Backend, Cycle, OnRemoved, Selection
from afterglow.keep.encode import known_kind, least_strength, valid_id, whole
from afterglow.keep.entry import Entry
from afterglow.keep.maintenance import to_stderr
from afterglow.keep.profile import MEMORY, Profile
from afterglow.keep.recall import recall
from afterglow.keep.snapshots import Snapshots, folder_of
from afterglow.keep.store import TraceStore as KeepTraceStore
from afterglow.keep.upkeep import cycle_of

__all__ = ["TraceStore", "last_decay_cycle", "open_backend"]

#: Stores that are not closed, for the exit.
_live: weakref.WeakSet[TraceStore] = weakref.WeakSet()
_hooked = False
#: The process in which multiprocessing knows of us.
_hooked_multiprocessing = 0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class TraceStore(KeepTraceStore):
    """A trace store in a file, or at a URL (postgresql://...).

    `path_or_url` may be the file that spans are recorded into. Partitions of one database do not
    see each other. `profile` is the table of kinds (afterglow.keep.profile). `maintenance`
    flushes, decays, counts tiers and enforces the quota in the background, each in a thread;
    without it, only what is called happens. `on_removed` is called inside each transaction that
    removes entries, with its connection and their ids. Every setting of KeepConfig,
    SnapshotConfig and ServersConfig can be given by name (docs/settings.md), such as
    `hot="redis://..."`, a tier before PostgreSQL. Raises SettingError and StoreError, and
    MissingExtraError where psycopg or redis is not installed.
    """

    def __init__(
        self,
        path_or_url: str | os.PathLike[str] = "memory.db",
        partition: str = "default",
        profile: Profile = MEMORY,
        *,
        clock: Clock | None = None,
        maintenance: bool = True,
        report: Callable[[str], None] | None = None,
        on_removed: OnRemoved | None = None,
        **settings: Any,
    ) -> None:
        known = room_fields(KeepConfig, SnapshotConfig, ServersConfig)
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise SettingError(
                f"unknown setting {unknown[0]!r}: there are {', '.join(sorted(known))}"
            )
        if not isinstance(profile, Profile):
            raise SettingError(f"profile={profile!r} is no afterglow.Profile(...)")
        config = load(KeepConfig, settings)
        snapshot = load(SnapshotConfig, settings)
        servers = load(ServersConfig, settings)
        if settings.get("hot") is not None and not _is_url(path_or_url):
            raise SettingError("hot= is a tier before PostgreSQL; a file is fast without one")
        backend = open_backend(
            path_or_url,
            partition,
            on_removed=on_removed,
            clock=clock,
            config=servers,
            report=report or to_stderr,
        )
        folder: Path | None = None
        if snapshot.snapshot_folder is not None:
            folder = Path(snapshot.snapshot_folder)
        elif not _is_url(path_or_url):
            folder = folder_of(Path(path_or_url).absolute())
        super().__init__(
            backend,
            profile,
            config=config,
            clock=clock,
            maintenance=maintenance,
            report=report or to_stderr,
            snapshots=Snapshots(
                backend, profile=profile.name, folder=folder, key=snapshot.snapshot_key
            ),
        )
        #: What a hot tier counts, where there is one.
        self._hot_counters: Callable[[], dict[str, int]] = getattr(backend, "counters", dict)
        _live.add(self)
        _hook_exit()

    def counters(self) -> dict[str, int]:
        return {**super().counters(), **self._hot_counters()}

    def recall(
        self,
        text: str = "",
        *,
        kind: str | None = None,
        tag: str | None = None,
        limit: int = 10,
        min_strength: float = 0.0,
        peek: bool = False,
    ) -> list[Entry]:
        """Entries that have each word of `text`, this kind and this tag; the best score first.

        They are reinforced by it, unless `peek`. Every payload of that kind or tag is read.
        """
        limit = whole(limit, "limit")
        found = self.each(kind=kind, tag=tag, min_strength=least_strength(min_strength))
        now_ns = self._clock.wall_ns()
        return recall(self, found, text, at_ns=now_ns, limit=limit, peek=peek)

    def each(
        self, *, kind: str | None = None, tag: str | None = None, min_strength: float = 0.0
    ) -> Iterator[Entry]:
        """All entries of a kind, with a tag, or both, in no order; memory stays small.

        What is changed meanwhile may be given as it was before or after. Raises EntryError.
        """
        self._check()
        if kind is not None:
            known_kind(self.profile, kind)
        if tag is not None:
            found = self._reading.each(Selection("tag", tag), min_strength)
            return (entry for entry in found if kind is None or entry.kind == kind)
        selection = Selection() if kind is None else Selection("kind", kind)
        return self._reading.each(selection, min_strength)

    def close(self, *, discard: bool = False) -> None:
        super().close(discard=discard)
        _live.discard(self)


def open_backend(
    path_or_url: str | os.PathLike[str],
    partition: str,
    *,
    on_removed: OnRemoved | None = None,
    read_only: bool = False,
    clock: Clock | None = None,
    config: ServersConfig | None = None,
    report: Callable[[str], None] = to_stderr,
) -> Backend:
    """The back end that a path or URL names, with the servers' settings from the environment if
    `config` is left out; `report` hears of a hot tier that is away. Raises SettingError,
    StoreError and MissingExtraError."""
    partition = valid_id(partition, "partition")
    if not isinstance(path_or_url, str | os.PathLike):
        raise SettingError(f"{path_or_url!r} is neither the path of a file nor a URL")
    if path_or_url == ":memory:":
        raise SettingError(
            "a trace store is a file, also for a while: name one in a temporary folder"
        )
    if not _is_url(path_or_url):
        from afterglow.keep.sqlite.backend import SqliteBackend

        path = Path(path_or_url).absolute()
        return SqliteBackend(path, partition, on_removed=on_removed, read_only=read_only)
    url = str(path_or_url)
    scheme = url.partition("://")[0].lower()
    if scheme in ("postgresql", "postgres"):
        from afterglow.keep.servers import open_servers

        return open_servers(
            url,
            partition,
            config=config or load(ServersConfig, {}),
            on_removed=on_removed,
            read_only=read_only,
            clock=clock or SystemClock(),
            report=report,
        )
    raise SettingError(
        f"no trace store is at {scheme}://: name a file, or a database as postgresql://HOST/NAME"
    )


def last_decay_cycle(
    path_or_url: str | os.PathLike[str], partition: str = "default"
) -> Cycle | None:
    """What the last decay cycle of any process did, without a store: one row is read.

    None before the first. Raises StoreError where there is no such file.
    """
    backend = open_backend(path_or_url, partition, read_only=True)
    try:
        return cycle_of(backend.totals())
    finally:
        backend.close()


def _is_url(path_or_url: str | os.PathLike[str]) -> bool:
    return isinstance(path_or_url, str) and _URL.match(path_or_url) is not None


def _hook_exit() -> None:
    global _hooked, _hooked_multiprocessing  # noqa: PLW0603  once a process
    if not _hooked:
        _hooked = True
        atexit.register(_close_all)
    # multiprocessing's children leave by os._exit, without atexit; it has exits of its own, which
    # a forked child forgets.
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _hooked_multiprocessing != os.getpid():
        _hooked_multiprocessing = os.getpid()
        util.Finalize(None, _close_all, exitpriority=-100)


def _close_all() -> None:
    for store in list(_live):
        try:
            store.close()
        except AfterglowError as error:
            to_stderr(f"{store.dirty} changes of a trace store are lost: {error}")
            store.close(discard=True)
