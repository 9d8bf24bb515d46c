"""Files that ferret-io wrote through beaver-db, read with plain SQL: no extra is needed.

    with read_ferret(Path("ferret.db")) as file:
        for process in file.processes():
            for span in file.spans(process.run_id): ...

A span id of ferret's is a uuid of 32 hexadecimal digits; ours is its low 64 bits (62 of them
random). Any other text becomes 64 bits of its hash. The trace id is a hash of the run and the
root's id. All of it is the same each time, so importing twice finds every span there already.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from afterglow.errors import NotAStoreError, NotFoundError
from afterglow.model.clean import clean_attributes, clean_text
from afterglow.model.profile import DEFAULT_NAMESPACE, ProfileSpan
from afterglow.model.run import Process
from afterglow.model.span import Span
from afterglow.store.beaver import beaver_error, log_tables, open_beaver

__all__ = ["FerretFile", "profile_spans", "read_ferret"]

Progress = Callable[[int, int], None]

_MASK64: Final = (1 << 64) - 1
_BATCH: Final = 5_000
_LATEST_NS: Final = 1 << 62  # the year 2116; SQLite's integers end at 2**63
_LAST_ROW: Final = (1 << 63) - 1

_decoder = msgspec.json.Decoder(ProfileSpan, strict=False)

_LINKS: Final = """
    CREATE TABLE link (run INTEGER, id INTEGER, parent INTEGER);
    CREATE TABLE root (run INTEGER, id INTEGER, root INTEGER);
"""
# Roots first, then generation by generation; UNION, so that a circle comes to an end. What no
# root leads to (a circle) is in no row and becomes a root itself.
_ROOTS: Final = """
    CREATE INDEX link_id ON link (run, id);
    CREATE INDEX link_parent ON link (run, parent, id);
    INSERT INTO root
        WITH RECURSIVE below (run, id, root) AS (
            SELECT run, id, id FROM link AS child WHERE parent = 0 OR NOT EXISTS (
                SELECT 1 FROM link AS other
                WHERE other.run = child.run AND other.id = child.parent)
            UNION
            SELECT link.run, link.id, below.root FROM below
            JOIN link ON link.run = below.run AND link.parent = below.id)
        SELECT run, id, root FROM below WHERE id <> root;
    CREATE INDEX root_id ON root (run, id, root);
    DROP INDEX link_id; DROP INDEX link_parent; DROP TABLE link;
"""


def read_ferret(
    path: Path, namespace: str = DEFAULT_NAMESPACE, *, progress: Progress | None = None
) -> FerretFile:
    """Open such a file and find its runs; `progress(done, total)` counts rows meanwhile.

    Raises NotAStoreError for a file that beaver-db did not make, NotFoundError for a log that
    is not in it (the message names those that are), and other StoreErrors.
    """
    return FerretFile(path, namespace, progress=progress)


class FerretFile:
    """The runs and spans of one log of a BeaverDB file, from one moment on.

    Memory is bounded: which root a span is under is found in a temporary database on disk.
    """

    def __init__(self, path: Path, namespace: str, *, progress: Progress | None = None) -> None:
        self._path = path
        self._namespace = namespace
        #: Rows that are no spans as ferret-io writes them; they are passed over.
        self.unreadable = 0
        self._runs: dict[str, _Run] = {}
        self._source = open_beaver(path)
        self._index: sqlite3.Connection | None = None
        try:
            # One snapshot for both passes, whatever is written meanwhile.
            self._source.isolation_level = None
            self._source.execute("BEGIN")
            self._tables = _tables_with(self._source, path, namespace)
            #: How many rows the log has: what `spans` yields, with the unreadable ones.
            self.total = sum(self._count(table) for table in self._tables)
            self._index = _new_index()
            self._find_runs(progress)
        except sqlite3.Error as error:
            self.close()
            raise beaver_error(error, path) from error
        except BaseException:
            self.close()
            raise

    def _count(self, table: str) -> int:
        (count,) = self._source.execute(
            f"SELECT count(*) FROM {table} WHERE log_name = ?", (self._namespace,)
        ).fetchone()
        return int(count)

    def _find_runs(self, progress: Progress | None) -> None:
        links: list[tuple[int, int, int]] = []
        for done, (table, row, stored) in enumerate(self._rows(), 1):
            if stored is None:
                self.unreadable += 1
            else:
                run = self._runs.get(stored.run_id)
                if run is None:
                    run = self._runs[stored.run_id] = _Run(len(self._runs))
                run.add(stored, table, row)
                parent = _signed(_id(stored.parent_id)) if stored.parent_id else 0
                links.append((run.number, _signed(_id(stored.span_id)), parent))
            if len(links) >= _BATCH:
                self._save(links)
            if progress is not None and done % _BATCH == 0:
                progress(done, self.total)
        self._save(links)
        assert self._index is not None
        self._index.executescript(_ROOTS)

    def _save(self, links: list[tuple[int, int, int]]) -> None:
        assert self._index is not None
        self._index.executemany("INSERT INTO link VALUES (?, ?, ?)", links)
        links.clear()

    def _rows(self, run: _Run | None = None) -> Iterator[tuple[str, int, ProfileSpan | None]]:
        """(table, row, span); of one run: the rows between its first and last, others among them.

        Runs follow each other in a file, or nearly so: reading run by run reads little twice.
        """
        for table in self._tables if run is None else run.rows:
            first, last = (0, _LAST_ROW) if run is None else run.rows[table]
            for row, stored in _stored(self._source, table, self._namespace, first, last):
                yield table, row, stored

    def processes(self) -> list[Process]:
        """One for each run, in order of their starts; ferret-io knows neither pid nor host."""
        resource = {"telemetry.sdk.name": "ferret-io", "telemetry.sdk.language": "python"}
        return [
            Process(
                run_id=run_id,
                pid=0,
                parent_pid=0,
                argv=(),
                host="",
                start_ns=run.start_ns,
                end_ns=run.end_ns,
                resource=resource,
            )
            for run_id, run in sorted(self._runs.items(), key=lambda item: item[1].start_ns)
        ]

    def spans(self, run_id: str | None = None) -> Iterator[Span]:
        """Every span, or those of one run, in the order of writing. Raises StoreError."""
        run = None if run_id is None else self._runs.get(run_id)
        if run is None and run_id is not None:
            return
        try:
            for _table, _row, stored in self._rows(run):
                if stored is not None and run_id in (None, stored.run_id):
                    yield self._span(stored)
        except sqlite3.Error as error:
            raise beaver_error(error, self._path) from error

    def _span(self, stored: ProfileSpan) -> Span:
        assert self._index is not None
        span_id = _id(stored.span_id)
        found = self._index.execute(
            "SELECT root FROM root WHERE run = ? AND id = ?",
            (self._runs[stored.run_id].number, _signed(span_id)),
        ).fetchone()
        root_id = span_id if found is None else found[0] & _MASK64
        start_ns, end_ns = _times(stored)
        attributes, _ = clean_attributes(stored.tags, _uncounted, max_attributes=len(stored.tags))
        description = attributes.get("error", "") if stored.status == "error" else ""
        return Span(
            trace_id=_trace_id(stored.run_id, root_id),
            span_id=span_id,
            parent_span_id=_id(stored.parent_id) if found is not None and stored.parent_id else 0,
            name=clean_text(stored.name),
            start_ns=start_ns,
            end_ns=end_ns,
            attributes=attributes,
            status="ok"
            if stored.status == "ok"
            else "error"
            if stored.status == "error"
            else "unset",
            status_description=description if isinstance(description, str) else "",
            status_text="" if stored.status in ("ok", "error") else clean_text(stored.status),
            run_id=stored.run_id,
        )

    def close(self) -> None:
        """May be called twice."""
        self._source.close()
        if self._index is not None:
            self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def profile_spans(path: Path, namespace: str, run_id: str) -> Iterator[ProfileSpan]:
    """The spans of one run as they are stored, without any index; none if there is no such log."""
    connection = open_beaver(path)
    try:
        for table in log_tables(connection):
            for _row, stored in _stored(connection, table, namespace, 0, _LAST_ROW):
                if stored is not None and stored.run_id == run_id:
                    yield stored
    except sqlite3.Error as error:
        raise beaver_error(error, path) from error
    finally:
        connection.close()


class _Run:
    """What is known of a run before its spans are read."""

    __slots__ = ("end_ns", "number", "rows", "start_ns")

    def __init__(self, number: int) -> None:
        self.number = number
        self.start_ns = _LATEST_NS
        self.end_ns = -_LATEST_NS
        #: By table: its first and last row.
        self.rows: dict[str, tuple[int, int]] = {}

    def add(self, stored: ProfileSpan, table: str, row: int) -> None:
        start_ns, end_ns = _times(stored)
        self.start_ns = min(self.start_ns, start_ns)
        self.end_ns = max(self.end_ns, start_ns if end_ns is None else end_ns)
        self.rows[table] = (self.rows[table][0] if table in self.rows else row, row)


def _tables_with(connection: sqlite3.Connection, path: Path, namespace: str) -> list[str]:
    tables = log_tables(connection)
    if not tables:
        raise NotAStoreError(f"{path} is no database that beaver-db made; name another file")
    with_it = [
        table
        for table in tables
        if connection.execute(
            f"SELECT 1 FROM {table} WHERE log_name = ? LIMIT 1", (namespace,)
        ).fetchone()
    ]
    if not with_it:
        there = sorted(
            {
                str(name)
                for table in tables
                for (name,) in connection.execute(f"SELECT DISTINCT log_name FROM {table}")
            }
        )
        said = f"it has {', '.join(map(repr, there))}" if there else "it has no logs at all"
        raise NotFoundError(f"{path}: no log named {namespace!r}: {said}")
    return with_it


def _new_index() -> sqlite3.Connection:
    # The empty name is a temporary database on disk, which goes with the connection.
    index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    index.execute("PRAGMA cache_size = -32768")
    index.execute("PRAGMA synchronous = OFF")
    index.execute("PRAGMA journal_mode = OFF")
    index.executescript(_LINKS)
    index.execute("BEGIN")
    return index


def _stored(
    connection: sqlite3.Connection, table: str, namespace: str, first: int, last: int
) -> Iterator[tuple[int, ProfileSpan | None]]:
    """The rows of a log in the order of writing; None for one that is no span."""
    rows = connection.execute(
        # The + keeps the index away: in the order of the rows no page is read twice.
        f"SELECT rowid, data FROM {table}"
        " WHERE +log_name = ? AND rowid BETWEEN ? AND ? ORDER BY rowid",
        (namespace, first, last),
    )
    for row, text in rows:
        try:
            stored = _decoder.decode(text)
            _times(stored)
        except (msgspec.DecodeError, TypeError, OverflowError, ValueError):
            yield row, None
        else:
            yield row, stored


def _times(stored: ProfileSpan) -> tuple[int, int | None]:
    """Start and end in ns since 1970. ferret-io measures both with the wall clock, which may
    step back in between: an end before the start becomes the start."""
    start_ns = round(stored.start_time * 1e9)
    if abs(start_ns) > _LATEST_NS:
        raise OverflowError
    if stored.end_time is None:
        return start_ns, None
    duration = stored.duration
    if duration is None:
        duration = stored.end_time - stored.start_time
    return start_ns, start_ns + max(0, round(min(duration, 1e9) * 1e9))


@functools.lru_cache(maxsize=65_536)
def _id(text: str) -> int:
    """A span id of 64 bits, never 0."""
    if len(text) in (16, 32):
        try:
            return int(text, 16) & _MASK64 or 1
        except ValueError:
            pass
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) or 1


@functools.lru_cache(maxsize=65_536)
def _trace_id(run_id: str, root_id: int) -> int:
    named = f"{run_id}\0{root_id:016x}".encode("utf-8", "replace")
    return int.from_bytes(blake2b(named, digest_size=16).digest())


def _signed(number: int) -> int:
    """The same 64 bits as SQLite's integer."""
    return number - (1 << 64) if number >> 63 else number


def _uncounted(kind: str, times: int) -> None:
    """Nobody keeps books of an import."""
