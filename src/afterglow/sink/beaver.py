"""Spans into BeaverDB, in the form in which ferret-io keeps them there (extra `beaver`).

The writer's thread writes the file with a connection of its own, one transaction a batch:
beaver's own `log()` takes an inter-process lock and a transaction for each entry, and shares
its connection with whatever else the program does with the database.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from afterglow.errors import (
    MissingExtraError,
    SettingError,
    SinkError,
    SinkUnavailableError,
    StoreError,
)
from afterglow.model.flat import (
    ATTRIBUTES,
    END,
    EXTRA,
    NAME,
    PARENT_ID,
    SPAN_ID,
    START,
    WIDTH,
    Extra,
)
from afterglow.model.profile import DEFAULT_NAMESPACE, ProfileSpan, tags_with_error
from afterglow.ports import SpanBatch
from afterglow.store.beaver import BeaverLog, is_beaver_file

__all__ = ["BeaverSink", "beaver_path", "is_beaver_db", "stored_in_memory"]

#: Connections that a forked child inherited: closing one there could harm the parent's, so
#: they are kept until the child ends.
_left: list[object] = []


def is_beaver_db(value: object) -> bool:
    """Whether this is an open BeaverDB; does not import beaver-db to find out."""
    beaver = sys.modules.get("beaver")
    return beaver is not None and isinstance(value, beaver.BeaverDB)


def beaver_path(database: Any) -> Path | None:
    """The file of an open BeaverDB; None for one in memory."""
    # Neither version says it in public; 2.x keeps it in the asynchronous half.
    path = str(getattr(database, "_async_db", database)._db_path)
    return None if path == ":memory:" else Path(path).absolute()


class BeaverSink:
    """A ports.SpanSink that appends to one log of a BeaverDB.

    `database` is a path or an open BeaverDB, which stays the caller's to close, at any time.
    Where there is no BeaverDB yet, beaver-db makes one at the first write. Open spans, the books
    and the description of the process have no place in ferret's form and are left out.
    While others hold the file for longer than `busy_timeout_s`, the spans stay in the queue.
    """

    def __init__(
        self, database: Any, namespace: str = DEFAULT_NAMESPACE, *, busy_timeout_s: float = 1.0
    ) -> None:
        self._namespace = namespace
        self._busy_timeout_s = busy_timeout_s
        self._memory: _MemoryLog | None = None
        self._log: BeaverLog | None = None
        self._identity: tuple[int, int] | None = None
        self._written = 0
        path = beaver_path(database) if is_beaver_db(database) else Path(database).absolute()
        if path is None:
            self._memory = _MemoryLog(database, namespace)
        #: The file; None for a BeaverDB in memory.
        self.path = path
        if path is not None and not is_beaver_file(path):
            _require_beaver()

    def write(self, batch: SpanBatch) -> None:
        entries = list(_entries(batch))
        if not entries:
            return
        if self.path is None:
            assert self._memory is not None
            self._memory.append(entries)
        else:
            try:
                self._connected(self.path).append(entries)
            except StoreError as error:
                self._disconnect()  # the next try begins with whatever file is there by then
                raise SinkUnavailableError(str(error)) from error
        self._written += len(entries)

    def _connected(self, path: Path) -> BeaverLog:
        if self._log is not None and self._identity == _identity(path):
            return self._log
        self._disconnect()  # the file was deleted or replaced under us
        if not is_beaver_file(path):
            _make_file(path)
        self._log = BeaverLog(path, self._namespace, busy_timeout_s=self._busy_timeout_s)
        self._identity = _identity(path)
        return self._log

    def _disconnect(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def after_fork(self) -> None:
        if self._log is not None:
            _left.append(self._log)
            self._log = None

    def close(self) -> None:
        self._disconnect()

    def counters(self) -> Mapping[str, Any]:
        return {"beaver_spans": self._written}


class _MemoryLog:
    """A log of a BeaverDB in memory, which only its own connection can reach."""

    def __init__(self, database: Any, namespace: str) -> None:
        self._database = database
        self._log = database.log(namespace)
        if not hasattr(self._log, "batched"):
            # beaver 1.x binds such a database to the thread that opened it.
            raise SettingError(
                "a BeaverDB in memory can only be written by its own thread before beaver-db 2: "
                "give it a file, or give the Profiler ':memory:'"
            )

    def append(self, entries: list[tuple[int, ProfileSpan]]) -> None:
        if getattr(self._database, "_closed", False):
            raise SinkError("the BeaverDB in memory was closed")  # asking it would wait for ever
        try:
            with self._log.batched() as log:
                for us, entry in entries:
                    log.log(msgspec.to_builtins(entry), us / 1e6)
        except TimeoutError as error:  # somebody holds a transaction, or beaver's own lock
            raise SinkUnavailableError(f"the BeaverDB in memory is busy: {error}") from error


def stored_in_memory(database: Any, namespace: str) -> Iterator[ProfileSpan]:
    """The spans in a log of an open BeaverDB, by way of its own connection."""
    log = database.log(namespace)
    # 2.x answers with (timestamp, data) from range(), 1.x by iteration.
    for _, entry in log.range() if hasattr(log, "batched") else log:
        try:
            yield msgspec.convert(entry, ProfileSpan, strict=False, from_attributes=True)
        except msgspec.ValidationError:
            continue  # somebody else's entry


def _entries(batch: SpanBatch) -> Iterator[tuple[int, ProfileSpan]]:
    """The finished spans as ferret-io's records, each with its start in microseconds."""
    flat, offset, run_id = batch.flat, batch.wall_offset_ns, batch.process.run_id
    for at in range(0, len(flat), WIDTH):
        span = flat[at : at + WIDTH]
        start, parent_id, extra = span[START] + offset, span[PARENT_ID], span[EXTRA]
        tags: dict[str, Any] = span[ATTRIBUTES]
        yield (
            start // 1000,
            ProfileSpan(
                span_id=f"{span[SPAN_ID]:016x}",
                parent_id=f"{parent_id:016x}" if parent_id else None,
                run_id=run_id,
                name=span[NAME],
                start_time=start / 1e9,
                end_time=(span[END] + offset) / 1e9,
                duration=(span[END] - span[START]) / 1e9,
                tags=tags if extra is None else tags_with_error(tags, extra.events),
                status="ok" if extra is None else _status(extra),
            ),
        )


def _status(extra: Extra) -> str:
    return extra.status_text or ("error" if extra.status == "error" else "ok")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there: device and inode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _require_beaver() -> None:
    if importlib.util.find_spec("beaver") is None:
        raise MissingExtraError("writing a new BeaverDB", "beaver")


def _make_file(path: Path) -> None:
    """All of beaver-db's tables, of the version that is installed."""
    _require_beaver()
    beaver = importlib.import_module("beaver")
    try:
        database = beaver.BeaverDB(str(path), connection_timeout=1.0)
        database.close()
        loop = getattr(database, "_loop", None)  # 2.x stops it, and leaves its sockets open
        if loop is not None and not loop.is_running():
            loop.close()
    except Exception as error:
        # Whatever it is made of today: sqlite3, aiosqlite, its own lock's timeout.
        raise SinkUnavailableError(f"{path}: beaver-db cannot make it: {error}") from error
