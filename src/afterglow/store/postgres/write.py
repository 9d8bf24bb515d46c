"""Pages of spans into PostgreSQL: each span once, whoever brings it and how often.

A page is one transaction. It first locks the rows of its traces, in the order of their key: from
then on nobody else adds to these traces or forgets them, so what is read of them is what there is.
Spans that are there already are left out, and counted as duplicates; the others go in by COPY.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import psycopg

from afterglow.clock import Clock, SystemClock
from afterglow.errors import StoreError
from afterglow.store.postgres import statements as sql
from afterglow.store.postgres.connections import Connection, Connections
from afterglow.store.postgres.failures import explained
from afterglow.store.postgres.lines import NewSpan, Page, new_spans
from afterglow.store.postgres.schema import migrate_spans
from afterglow.store.postgres.settle import Known, Settled, settled
from afterglow.store.postgres.sums import TraceSum, book_rows, new_links, new_roots, trace_sums
from afterglow.store.postgres.text import kept

__all__ = ["PageWriter"]

_TRY_AGAIN: Final = ("40001", "40P01")
_MOST_TRIES: Final = 5
_COPY_BYTES: Final = 1 << 18


class PageWriter:
    """Writes pages to `url`; one thread at a time. It connects when it is first used.

    Raises SettingError for a URL that is none; `write` raises StoreError while the server cannot
    be used, and ValueError for a value that it does not take: nothing of that page is there then.
    """

    def __init__(self, url: str, *, connect_timeout_s: float, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        # Whoever calls tries again, with patience of his own.
        self._connections = Connections(
            url, limit=1, connect_timeout_s=connect_timeout_s, patience_s=0.0, clock=self._clock
        )
        self.place = self._connections.place
        self._forget()

    def _forget(self) -> None:
        self._projects: dict[str, int] = {}
        self._processes: dict[tuple[int, str], int] = {}
        self._migrated = False

    def write(self, pages: Sequence[Page]) -> int:
        """Store what is not there yet, in one transaction; how many spans were new."""
        attempt = 0
        while True:
            try:
                with explained(self.place), self._connections.lent() as connection:
                    try:
                        return self._write(connection, pages)
                    except psycopg.Error as error:
                        with suppress(psycopg.Error):
                            connection.execute("ROLLBACK")
                        attempt += 1
                        if error.sqlstate not in _TRY_AGAIN or attempt >= _MOST_TRIES:
                            raise
            except (StoreError, ValueError):
                # It may come back as another database.
                self._forget()
                self._connections.forget_idle()
                raise
            self._connections.pause(attempt)

    def close(self) -> None:
        """Give the connection back; may be called twice."""
        self._connections.close()

    # --- a page ---------------------------------------------------------------------------

    def _write(self, connection: Connection, pages: Sequence[Page]) -> int:
        if not self._migrated:
            migrate_spans(connection, self.place)
            self._migrated = True
        # Before the transaction: rows of projects and processes belong to no page.
        for page in pages:
            self._project(connection, page.project)
        spans = [
            span
            for page in pages
            for process, rows in page.spans
            for span in new_spans(
                self._project(connection, page.project),
                self._process(connection, page.project, process, min(rows.start_ns, default=0)),
                process.argv[0],
                rows,
            )
        ]
        connection.execute("BEGIN")
        result = self._store(connection, spans)
        self._mark(connection, pages)
        self._count(connection, pages, result)
        connection.execute("COMMIT")
        return len(result.fresh)

    def _project(self, connection: Connection, name: str) -> int:
        found = self._projects.get(name)
        if found is None:
            key = kept(name)
            row = connection.execute(sql.PROJECT, (key,)).fetchone()
            if row is None:
                connection.execute(sql.PUT_PROJECT, (key,))
                row = connection.execute(sql.PROJECT, (key,)).fetchone()
            assert row is not None
            found = self._projects[name] = row[0]
        return found

    def _process(self, connection: Connection, project: str, process: Any, start_ns: int) -> int:
        project_id = self._project(connection, project)
        found = self._processes.get((project_id, process.run_id))
        if found is None:
            values = {
                "project_id": project_id,
                "run_id": process.run_id,
                "pid": process.pid,
                "service": kept(process.argv[0]),
                "host": kept(process.host),
                "start_ns": min(start_ns, (1 << 63) - 1),
                "resource": kept(msgspec.json.encode(process.resource).decode()),
            }
            row = connection.execute(sql.PROCESS, values).fetchone()
            if row is None:
                connection.execute(sql.PUT_PROCESS, values)
                row = connection.execute(sql.PROCESS, values).fetchone()
            assert row is not None
            found = self._processes[project_id, process.run_id] = row[0]
        return found

    def _store(self, connection: Connection, spans: list[NewSpan]) -> Settled:
        if not spans:
            return Settled([], [], {})
        sums = trace_sums(spans)
        known = self._lock(connection, spans, sums)
        result = settled(spans, known)
        self._copy(connection, result)
        if result.changed:
            keys = sorted(result.changed)
            connection.execute(
                sql.CORRECT_SPANS,
                {
                    **_key_columns(keys),
                    "self_ns": [result.changed[key][0] for key in keys],
                    "place": [result.changed[key][1] for key in keys],
                },
            )
        if result.repeated:
            too_much = trace_sums(result.repeated)
            connection.execute(
                sql.CORRECT_TRACES,
                {
                    "project_id": [key[0] for key in too_much],
                    "trace_id": [bytes.fromhex(key[1]) for key in too_much],
                    "spans": [s.spans for s in too_much.values()],
                    "errors": [s.errors for s in too_much.values()],
                    "bytes": [s.bytes for s in too_much.values()],
                },
            )
        return result

    def _lock(
        self, connection: Connection, spans: list[NewSpan], sums: dict[tuple[int, str], TraceSum]
    ) -> list[Known]:
        """Lock the rows of all traces, and read what there is of those that were there."""
        keys = sorted(sums)
        columns = dict(
            zip(_TRACE_COLUMNS, zip(*(sums[key].columns() for key in keys), strict=True),
                strict=True)
        )  # fmt: skip
        rows = connection.execute(
            sql.PUT_TRACES,
            {
                **{name: list(values) for name, values in columns.items()},
                "project_id": [key[0] for key in keys],
                "trace_id": [bytes.fromhex(key[1]) for key in keys],
                "now_ns": self._clock.wall_ns(),
            },
        ).fetchall()
        old = {(project, trace) for project, trace, version in rows if version > 1}
        if not old:
            return []
        ids = {span.key[2] for span in spans if span.key[:2] in old}
        ids |= {s.parent for s in spans if s.key[:2] in old and s.parent is not None}
        related = connection.execute(
            sql.RELATED,
            {
                "project_id": [project for project, _ in old],
                "trace_id": [bytes.fromhex(trace) for _, trace in old],
                "ids": [bytes.fromhex(i) for i in ids],
            },
        )
        return [Known((p, t, s), *rest) for p, t, s, *rest in related]

    def _copy(self, connection: Connection, result: Settled) -> None:
        if not result.fresh:
            return
        lines: list[str] = []
        size = 0
        with connection.cursor().copy(sql.COPY_SPANS) as copy:
            for span, self_ns, place in result.fresh:
                line = f"{span.line}\t{self_ns}\t{place}\n"
                lines.append(line)
                size += len(line)
                if size >= _COPY_BYTES:
                    copy.write("".join(lines).encode())
                    lines, size = [], 0
            copy.write("".join(lines).encode())

    def _mark(self, connection: Connection, pages: Sequence[Page]) -> None:
        marks = sorted(
            (self._project(connection, page.project), *segment)
            for page in pages
            for segment in page.segments
        )
        if marks:
            columns = dict(zip(_SEGMENT_COLUMNS, zip(*marks, strict=True), strict=True))
            for name in ("trace_id", "root_span_id"):
                columns[name] = tuple(bytes.fromhex(i) for i in columns[name])
            connection.execute(
                sql.PUT_SEGMENTS,
                {name: list(values) for name, values in columns.items()}
                | {"now_ns": self._clock.wall_ns()},
            )

    def _count(self, connection: Connection, pages: Sequence[Page], result: Settled) -> None:
        fresh = [span for span, _, _ in result.fresh]
        books = book_rows("stored", fresh) + book_rows("duplicate", result.repeated)
        for page in pages:
            if page.unreadable:
                project = self._project(connection, page.project)
                books.append((project, 0, "unreadable", "", page.unreadable, 0, 0, 0))
        with connection.cursor() as cursor:
            for statement, rows in (
                (sql.PUT_BOOKS, books),
                (sql.PUT_ROOTS, new_roots(fresh)),
                (sql.PUT_LINKS, new_links(fresh)),
            ):
                if rows:
                    cursor.executemany(statement, rows)


_TRACE_COLUMNS: Final = (
    "service", "name", "start_ns", "end_ns", "duration_ns", "status", "root", "root_start_ns",
    "root_span_id", "spans", "errors", "bytes",
)  # fmt: skip
_SEGMENT_COLUMNS: Final = (
    "project_id", "trace_id", "message_id", "root_span_id", "part", "is_last", "addendum",
    "spans", "unreadable",
)  # fmt: skip


def _key_columns(keys: Sequence[tuple[int, str, str]]) -> dict[str, list[Any]]:
    return {
        "project_id": [key[0] for key in keys],
        "trace_id": [bytes.fromhex(key[1]) for key in keys],
        "span_id": [bytes.fromhex(key[2]) for key in keys],
    }
