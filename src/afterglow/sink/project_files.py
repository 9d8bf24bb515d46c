"""The files of a store: one for each project, of which only some are open at once.

`afterglow.db` is the file of the project `default`, `afterglow.PROJECT.db` that of another.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from afterglow.errors import MissingExtraError, SinkError, SinkUnavailableError, StoreError
from afterglow.model.run import Process
from afterglow.store.attributes import encode_attributes
from afterglow.store.received import (
    BUSY_MS,
    ReceivedFile,
    ReceivedRows,
)
from afterglow.store.rows import Rows

__all__ = ["DEFAULT_PROJECT", "ProjectFiles", "project_path", "received_rows"]

DEFAULT_PROJECT: Final = "default"
_PROJECT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_MOST_OPEN: Final = 8


def project_path(path: Path, project: str) -> Path:
    """The file of a project, beside that of the default one.

    Raises SinkError for a name that is none: nobody who checks what comes in lets it through.
    """
    if project == DEFAULT_PROJECT:
        return path
    if not _PROJECT.fullmatch(project):
        raise SinkError(f"{project!r} is no name of a project; it has 1 to 64 of A-Z a-z 0-9 . _ -")
    return path.with_name(f"{path.stem}.{project}{path.suffix}")


class _File(msgspec.Struct):
    file: ReceivedFile
    lock: threading.Lock


class ProjectFiles:
    """The open files of a store, for the threads of one process; each file is one thread's at a
    time. At most `most_open` are open when nobody uses them. Close it."""

    def __init__(self, path: Path, *, most_open: int = _MOST_OPEN, busy_ms: int = BUSY_MS) -> None:
        self.path = path
        self._most_open = most_open
        self._busy_ms = busy_ms
        self._lock = threading.Lock()
        #: Owner: whoever holds the lock. The one that was used longest ago is first.
        self._files: OrderedDict[str, _File] = OrderedDict()

    @contextmanager
    def of(self, project: str) -> Iterator[ReceivedFile]:
        """The file of a project, for as long as it is used.

        StoreErrors come out as SinkUnavailableError: whatever is wrong with a file (busy, full,
        damaged, of a newer version), a person can put right, and spans wait for that.
        """
        one = self._take(project)
        with one.lock:
            try:
                yield one.file
            except StoreError as error:
                one.file.close()  # the next try begins with whatever file is there by then
                raise SinkUnavailableError(str(error)) from error
        self._close_oldest()

    def _take(self, project: str) -> _File:
        with self._lock:
            one = self._files.get(project)
            if one is None:
                path = project_path(self.path, project)
                one = self._files[project] = _File(
                    ReceivedFile(path, busy_ms=self._busy_ms), threading.Lock()
                )
            self._files.move_to_end(project)
            return one

    def _close_oldest(self) -> None:
        with self._lock:
            for project in list(self._files)[: -self._most_open]:
                one = self._files[project]
                if one.lock.acquire(blocking=False):
                    try:
                        one.file.close()
                        del self._files[project]
                    finally:
                        one.lock.release()

    def close(self) -> None:
        """Give all files back; may be called twice."""
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
        for one in files:
            with one.lock:
                one.file.close()


def received_rows(
    project: str, payloads: Sequence[bytes], process_of: Callable[[str, dict[str, object]], Process]
) -> tuple[list[ReceivedRows], list[int]]:
    """The rows of payloads by resource, and which payloads cannot be read."""
    try:
        from afterglow.otlp.columns import read_columns
    except ImportError:
        raise MissingExtraError("reading OTLP", "otlp") from None
    found, unreadable = read_columns(payloads, encode_attributes)
    return [
        ReceivedRows(
            process_of(project, columns.resource),
            Rows(
                trace_id=columns.trace_id,
                span_id=columns.span_id,
                parent_span_id=columns.parent_span_id,
                name=columns.name,
                start_ns=columns.start_ns,
                end_ns=columns.end_ns,
                duration_ns=columns.duration_ns,
                attributes=columns.attributes,
                thread_id=columns.thread_id,
                thread_name=columns.thread_name,
                task_name=columns.task_name,
                extras=columns.extras,
                events=columns.events,
                links=columns.links,
                errors=columns.errors,
                open_rows=0,
            ),
        )
        for columns in found
    ], unreadable
