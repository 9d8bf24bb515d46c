"""The named file, opened for reading: what is new in the journals is folded in first."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from afterglow.analyse.statistics import Statistics
from afterglow.clock import Clock
from afterglow.errors import StoreError
from afterglow.ledger import Ledger
from afterglow.model.audit import Audit
from afterglow.model.run import Process, Run
from afterglow.model.span import Span
from afterglow.model.statistics import NameStatistics
from afterglow.model.tree import SpanNode
from afterglow.store.books import (
    named_run,
    read_audits,
    read_books,
    read_deliveries,
    read_processes,
    read_runs,
    sum_books,
)
from afterglow.store.failures import explained, primary_code, store_error
from afterglow.store.figures import add_forgotten
from afterglow.store.fold import Folded, fold
from afterglow.store.journal_files import journals_in
from afterglow.store.schema import connect, journals_of, one_snapshot, verify
from afterglow.store.spans import COLUMNS, SpanReader, Where, matches, trace_filter
from afterglow.store.traces import TraceReader

__all__ = ["Database"]

_PORTION: Final = 16_384
#: SQLite's ways to say that a file may be looked at, but not written.
_CANNOT_WRITE: Final = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
)


class Database:
    """One file of spans. Nothing that is asked of it changes it; close it, or use `with`.

    `run` is everywhere a whole run id, the beginning of one that no other run has, the name of a
    service that spans were received from (its newest run), or "latest"; None and "all" mean all.
    Raises NotFoundError for another, and StoreError, with one line that says what to do, where the
    file cannot be read. Iterators read as they go on, each from one snapshot of the file, in memory
    that does not grow with the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.path = Path(path)
        #: What folding did; its `problems` are lines for a person.
        self.folded = Folded()
        self._query_connection: sqlite3.Connection | None = None
        self._closed = False
        if os.path.lexists(self.path):
            verify(self.path)
        elif not journals_of(self.path).is_dir():
            raise StoreError(
                f"{self.path} is not there; record into it first: afterglow run SCRIPT"
            )
        self._fold(progress, clock)
        with explained(self.path):
            self._connection = _reading_connection(self.path)
        self._reader = SpanReader(self._connection)

    def _fold(self, progress: Callable[[int, int], None] | None, clock: Clock | None) -> None:
        try:
            self.folded = fold(self.path, progress=progress, clock=clock)
        except (sqlite3.Error, OSError) as error:
            error_of_ours = store_error(error, self.path)
            may_read = not isinstance(error, sqlite3.Error) or primary_code(error) in _CANNOT_WRITE
            if not may_read or not self.path.exists():
                raise error_of_ours from error
            # What was folded before can still be read; what was not is said.
            if left := len(journals_in(journals_of(self.path))):
                self.folded.problems.append(
                    f"{left} journals are not shown, for they cannot be folded: {error_of_ours}"
                )

    def close(self) -> None:
        """Give the file back; iterators that are still in use end with a StoreError."""
        # The one that may write goes last: SQLite then leaves one file, without helpers.
        self._closed = True
        if self._query_connection is not None:
            self._query_connection.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- runs and their books -------------------------------------------------------------

    def runs(self) -> list[Run]:
        """All runs, the earliest first."""
        with explained(self.path):
            return read_runs(self._connection)

    def processes(self, run: str | None = None) -> list[Process]:
        """The processes of a run, the earliest first; one that recorded twice is there twice."""
        with explained(self.path):
            found = read_processes(self._connection, self._run_id(run))
        return [process for _, _, process in found]

    def ledger(self, run: str | None = None) -> Ledger:
        """The books of all processes together, as the newest batch of each states them."""
        with explained(self.path):
            found = read_processes(self._connection, self._run_id(run))
            return sum_books([read_books(self._connection, i)[0] for i, _, _ in found])

    def audit(self, run: str | None = None) -> list[Audit]:
        """The books of each process beside the finished spans that are in the file."""
        with explained(self.path):
            return read_audits(self._connection, self._run_id(run))

    def deliveries(self) -> tuple[int, int]:
        """Spans that sinks brought in parts of segments, each time, and those of new parts."""
        with explained(self.path):
            return read_deliveries(self._connection)

    def counts(self, run: str | None = None) -> dict[str, int]:
        """Calls that were counted instead of recorded, by name, the most called first."""
        with explained(self.path):
            rows = self._connection.execute(
                "SELECT c.name, sum(c.calls) FROM counts AS c JOIN processes AS p"
                " ON p.id = c.process WHERE :run IS NULL OR p.run_id = :run"
                " GROUP BY c.name ORDER BY 2 DESC, 1",
                {"run": self._run_id(run)},
            )
            return dict(rows.fetchall())

    def _run_id(self, run: str | None) -> str | None:
        """The whole id of a run that somebody named; None for all."""
        if run is None:
            return None
        with explained(self.path):
            return named_run(self._connection, self.path, run)

    def _of_run(self, run_id: str | None) -> Where:
        """The condition for spans of a run, with the range of rows in which they lie."""
        where = Where()
        if run_id is None:
            return where
        first, last, alone = self._connection.execute(
            "SELECT min(first_span), max(last_span),"
            " NOT EXISTS (SELECT 1 FROM processes WHERE run_id <> :run)"
            " FROM processes WHERE run_id = :run",
            {"run": run_id},
        ).fetchone()
        if not alone:
            # Unary plus: the order of rows is the way to read them, not an index.
            where.add("s.id BETWEEN ? AND ?", first or 0, last or 0)
            where.add("+s.process IN (SELECT id FROM processes WHERE run_id = ?)", run_id)
        return where

    # --- spans ----------------------------------------------------------------------------

    def spans(
        self,
        *,
        run: str | None = None,
        name: str | None = None,
        trace_id: int | str | None = None,
        status: str | None = None,
        min_duration_ns: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        limit: int | None = None,
        slowest: bool = False,
    ) -> Iterator[Span]:
        """Spans for which all of it is true, in the order in which they were folded.

        `status` is unset, ok, error, interrupted, or a text of the program's own;
        `attributes` are those that a span must have, with equal values; `trace_id` may be a
        number or hexadecimal. `slowest` orders by duration, those without an end last.
        """
        with explained(self.path):
            where = self._of_run(self._run_id(run))
        if name is not None:
            where.add("s.name = ?", name)
        if trace_id is not None:
            trace_filter(where, trace_id)
        if status is not None:
            where.status(status)
        if min_duration_ns is not None:
            where.add("s.duration_ns >= ?", min_duration_ns)
        if attributes:
            where.attributes(attributes)
        order = "s.duration_ns DESC, s.id" if slowest else "s.id"
        query = f"SELECT {COLUMNS} FROM spans AS s {where} ORDER BY {order}"
        if limit is not None and not attributes:
            query += f" LIMIT {max(0, int(limit))}"
        return self._matching(query, where.values, attributes or {}, limit)

    def _matching(
        self, query: str, values: Sequence[Any], attributes: Mapping[str, Any], limit: int | None
    ) -> Iterator[Span]:
        with explained(self.path):
            found = self._reader.spans(query, values)
            right = (span for span in found if matches(span.attributes, attributes))
            yield from islice(right, None if limit is None else max(0, limit))

    def statistics(
        self,
        *,
        run: str | None = None,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[NameStatistics]:
        """Figures for each name of a span, most self time first.

        `progress(done, total)` is called as finished spans are read.
        """
        statistics = Statistics()
        with explained(self.path), one_snapshot(self._connection):
            run_id = self._run_id(run)
            (total,) = self._connection.execute(
                "SELECT coalesce(sum(spans), 0) FROM processes WHERE :run IS NULL OR run_id = :run",
                {"run": run_id},
            ).fetchone()
            where = self._of_run(run_id)
            if name is not None:
                where.add("s.name = ?", name)
            self._add_unended(statistics, where)
            where.add("s.end_ns IS NOT NULL")
            done = add_forgotten(self._connection, statistics, run_id, name)
            rows = self._connection.execute(
                "SELECT s.name, s.duration_ns, coalesce(s.self_ns, s.duration_ns),"
                f" s.status = 'error' FROM spans AS s NOT INDEXED {where}",
                where.values,
            )
            with closing(rows):
                while portion := rows.fetchmany(_PORTION):
                    _add_portion(statistics, portion)
                    done += len(portion)
                    if progress is not None:
                        progress(done, total)
        return statistics.result()

    def _add_unended(self, statistics: Statistics, where: Where) -> None:
        conditions = " AND ".join(["s.end_ns IS NULL", *where.terms])
        for name, count in self._connection.execute(
            f"SELECT s.name, count(*) FROM spans AS s WHERE {conditions} GROUP BY s.name",
            where.values,
        ):
            statistics.add_interrupted(name, count)

    def traces(self, *, run: str | None = None, limit: int | None = None) -> Iterator[SpanNode]:
        """The trees of spans, slowest first; their roots have no parent in the file.

        Children are read when they are looked at, so a trace may be larger than memory. A
        root without an end counts as long as its process was heard of.
        """
        with explained(self.path):
            run_id = self._run_id(run)
            where = self._of_run(run_id)
        reader = TraceReader(self.path, self._reader)
        return reader.roots(where, run_id, None if limit is None else max(0, limit))

    # --- SQL ------------------------------------------------------------------------------

    def query(
        self, sql: str, values: Sequence[Any] = ()
    ) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The titles of a query's columns, and its rows as they come. It can change nothing.

        Raises StoreError with SQLite's message, also while rows are read.
        """
        if self._closed:
            raise StoreError(f"{self.path} was closed; open it again")
        try:
            if self._query_connection is None:
                self._query_connection = _strictly_reading(self.path)
            cursor = self._query_connection.execute(sql, values)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _query_error(error) from error
        return [column[0] for column in cursor.description or ()], _rows_of(cursor)


def _rows_of(cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    try:
        yield from cursor
    except sqlite3.Error as error:
        raise _query_error(error) from error
    finally:
        cursor.close()


def _query_error(error: Exception) -> StoreError:
    refused = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH)
    if isinstance(error, sqlite3.Error) and primary_code(error) in refused:
        return StoreError("the query would change the file; afterglow only reads it")
    return StoreError(f"the query cannot be done: {error}")


def _add_portion(statistics: Statistics, rows: Sequence[tuple[str, int, int, int]]) -> None:
    groups: defaultdict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
    for row in rows:
        groups[row[0]].append(row)
    for name, group in groups.items():
        _, durations, self_times, errors = zip(*group, strict=True)
        statistics.add(name, durations, self_ns=sum(self_times), errors=sum(errors))


def _reading_connection(path: Path) -> sqlite3.Connection:
    """A connection that reads; one that could write where that is possible.

    The last connection that can write takes SQLite's helper files away when it is closed.
    """
    log = path.with_name(path.name + "-wal")
    modes = ["rw", "ro"]
    if not log.exists() or not log.stat().st_size:
        # A folder where SQLite cannot make its helpers: nobody else writes there either.
        modes.append("immutable")
    failure: sqlite3.Error | None = None
    for mode in modes:
        connection = connect(path, mode)
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA cache_size=-16384")
            connection.execute("SELECT count(*) FROM runs").fetchone()
        except sqlite3.Error as error:
            connection.close()
            if primary_code(error) not in _CANNOT_WRITE:
                raise
            failure = error
        else:
            return connection
    assert failure is not None
    raise failure


def _strictly_reading(path: Path) -> sqlite3.Connection:
    connection = connect(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if primary_code(error) not in _CANNOT_WRITE:
            raise
        connection = connect(path, "immutable")
    connection.execute("PRAGMA query_only=ON")
    # VACUUM INTO would write another file, and attaches it to do so.
    connection.set_authorizer(_no_other_files)
    return connection


def _no_other_files(action: int, *_details: str | None) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK
