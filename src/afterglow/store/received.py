"""Spans that a collector received, into the file: each once, whoever brings it and how often.

A span is known by its trace id and span id together. Several threads and processes may write one
file, in any order, the same spans too: each takes its turn, and looks in its own transaction at
what is there. Each resource is a row of `processes` (state `received`), whose books say that as
many spans were recorded and written as were stored, so that every reader works as for programs
that wrote the file themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from afterglow.errors import UnencodableError
from afterglow.model.run import Process
from afterglow.store.failures import explained
from afterglow.store.insert import insert_received, put_process, refresh_run
from afterglow.store.rows import Rows, some_rows
from afterglow.store.schema import initialise, transaction, verify

__all__ = ["BUSY_MS", "ReceivedFile", "ReceivedRows", "SegmentRow", "SpanKey", "received_process"]

#: Trace id and span id, as text.
SpanKey = tuple[str, str]

#: So long one write waits for the others that write the file.
BUSY_MS: Final = 5_000
#: The ids of received spans are random, so every page of the indexes changes all the time: more
#: of them in memory, and written back less often, is a fifth less time a span in large files.
_CACHE_KIB: Final = 65_536
_LOG_PAGES: Final = 16_384
_STATE: Final = "received"
_UNNAMED: Final = "unknown_service"
_LARGEST: Final = (1 << 63) - 1


class ReceivedRows(msgspec.Struct, frozen=True):
    """Finished spans of one resource (`received_process`)."""

    process: Process
    rows: Rows


class SegmentRow(NamedTuple):
    """A part of a segment that is assembled; ids are text, `assembled_ns` is wall-clock ns."""

    trace_id: str
    root_span_id: str
    message_id: str
    part: int
    is_last: bool
    addendum: bool
    spans: int
    unreadable: int
    assembled_ns: int


def received_process(project: str, resource: Mapping[str, Any]) -> Process:
    """What stands for a resource in `processes`: the same for the same attributes, in any order.

    Its start is that of its first span, which whoever writes it knows.
    """
    texts = {key: _text(value) for key, value in sorted(resource.items())}
    identity = msgspec.json.encode([project, texts])
    pid = texts.get("process.pid", "")
    return Process(
        run_id=blake2b(identity, digest_size=8).hexdigest(),
        pid=int(pid) if pid.isdecimal() and pid.isascii() and int(pid) <= _LARGEST else 0,
        parent_pid=0,
        argv=(texts.get("service.name") or _UNNAMED,),
        host=texts.get("host.name", ""),
        start_ns=_LARGEST,
        resource=texts,
    )


def _text(value: Any) -> str:
    """A value of a resource, as `processes` has it: all of them are strings there."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


class ReceivedFile:
    """Writes one file; makes it where it is not there. One thread at a time; close it.

    Raises StoreError where the file cannot be used now (held for longer than `busy_ms`, on a full
    disk, damaged, of a newer version), whereupon nothing of that write is there; and
    UnencodableError for spans that no file can take.
    """

    def __init__(self, path: Path, *, busy_ms: int = BUSY_MS) -> None:
        self.path = path
        self._busy_ms = busy_ms
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def known(self, keys: Iterable[SpanKey]) -> set[SpanKey]:
        """Which of these spans are in the file, as of now."""
        wanted = set(keys)
        if not wanted:
            return wanted
        with explained(self.path):
            return wanted & _there(self._connected(), (span for _, span in wanted))

    def write(
        self,
        received: Sequence[ReceivedRows],
        segments: Sequence[SegmentRow] = (),
        *,
        durable: bool = False,
    ) -> int:
        """Store spans that are not there yet, and mark segments, in one transaction; how many
        were new.

        When it returns they survive the death of this process; with `durable` that of the machine
        too, and so does all that was written before.
        """
        if not received and not segments:
            return 0
        with explained(self.path):
            connection = self._connected()
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            try:
                with transaction(connection):
                    new = _store(connection, received)
                    connection.executemany(_SEGMENT, segments)
            except (OverflowError, UnicodeEncodeError, sqlite3.DataError) as error:
                raise UnencodableError(f"{self.path} cannot take a value: {error}") from error
        return new

    def close(self) -> None:
        """Give the file back; it is opened again by whoever asks for it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that is there now: it may have been deleted under us."""
        if self._connection is not None and self._identity == _identity(self.path):
            return self._connection
        self.close()
        if self.path.exists():
            verify(self.path)
        self._connection = initialise(self.path)
        self._connection.execute(f"PRAGMA busy_timeout={self._busy_ms:d}")
        self._connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        self._identity = _identity(self.path)
        return self._connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there: device and inode."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


# --- in the caller's transaction ----------------------------------------------------------

_THERE: Final = (
    "SELECT s.trace_id, s.span_id FROM json_each(?) AS j"
    " CROSS JOIN spans AS s INDEXED BY spans_by_id ON s.span_id = j.value"
)
_SEGMENT: Final = "INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TIMES: Final = (
    "UPDATE processes SET start_ns = min(start_ns, ?), end_ns = max(coalesce(end_ns, 0), ?)"
    " WHERE id = ?"
)
_BOOKS: Final = (
    "INSERT INTO ledger VALUES (?, ?, '', ?)"
    " ON CONFLICT DO UPDATE SET spans = spans + excluded.spans"
)


def _there(connection: sqlite3.Connection, span_ids: Iterable[str]) -> set[SpanKey]:
    """The keys of all rows with these span ids; ids of other traces may be among them.

    Each id is asked for once: senders that count from 1 in every trace have few of them.
    """
    listed = '["' + '","'.join(set(span_ids)) + '"]'
    return set(connection.execute(_THERE, (listed,)).fetchall())


def _store(connection: sqlite3.Connection, received: Sequence[ReceivedRows]) -> int:
    fresh = [part for part in _fresh(connection, received) if len(part.rows)]
    parts = [(_process(connection, part), part.rows) for part in fresh]
    if not parts:
        return 0
    insert_received(connection, parts)
    for process, rows in parts:
        ends = [end for end in rows.end_ns if end is not None]
        connection.execute(_TIMES, (min(rows.start_ns), max(ends), process))
        connection.executemany(
            _BOOKS, [(process, "recorded", len(ends)), (process, "written", len(ends))]
        )
    for run_id in {part.process.run_id for part in fresh}:
        refresh_run(connection, run_id)
    return sum(len(rows) for _, rows in parts)


def _fresh(
    connection: sqlite3.Connection, received: Sequence[ReceivedRows]
) -> Iterable[ReceivedRows]:
    """What is not in the file yet; of a span that came twice, the first."""
    seen = _there(connection, (span for part in received for span in part.rows.span_id))
    for part in received:
        rows = part.rows
        keys = list(zip(rows.trace_id, rows.span_id, strict=True))
        distinct = set(keys)
        if len(distinct) < len(keys) or not seen.isdisjoint(distinct):
            rows = some_rows(rows, [_first(key, seen) for key in keys])
        seen |= distinct
        yield ReceivedRows(part.process, rows)


def _first(key: SpanKey, seen: set[SpanKey]) -> bool:
    if key in seen:
        return False
    seen.add(key)
    return True


def _process(connection: sqlite3.Connection, part: ReceivedRows) -> int:
    """The row of a resource, made for its first span."""
    row = connection.execute(
        "SELECT id FROM processes WHERE run_id = ?", (part.process.run_id,)
    ).fetchone()
    if row is not None:
        return int(row[0])
    start_ns = min(part.rows.start_ns)
    return put_process(
        connection, msgspec.structs.replace(part.process, start_ns=start_ns), state=_STATE
    )
