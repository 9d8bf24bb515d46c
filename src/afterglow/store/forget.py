"""Forgetting traces: their spans go, and what they came to is added to `forgotten`.

Everything is done inside the caller's transaction, so that an entry, its spans and the figures
that stay are changed together or not at all. There is no index of all spans by trace (it would
be written all over, for trace ids are random): the rows of a trace lie between two ids that
`traces` remembers, so the ranges of all that go are merged, and read once in the order of ids.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from afterglow.ledger import ForgetReason
from afterglow.store.figures import count_gone

__all__ = ["DELETE_GONE", "EMPTY_GONE", "Forgotten", "forget_traces"]

#: A trace whose rows are strewn over more ids than this many for each of its spans is found by
#: its parents and children instead.
_STREWN: Final = 256


#: The ids of rows that are about to go are in a temporary table of the connection.
EMPTY_GONE: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY)",
    "DELETE FROM temp.gone",
)
DELETE_GONE: Final = (
    "DELETE FROM events WHERE span IN (SELECT id FROM temp.gone)",
    "DELETE FROM links WHERE span IN (SELECT id FROM temp.gone)",
    "DELETE FROM spans WHERE id IN (SELECT id FROM temp.gone)",
)


class Forgotten(msgspec.Struct):
    """What went: traces, and finished spans."""

    traces: int = 0
    spans: int = 0


def forget_traces(
    connection: sqlite3.Connection, trace_ids: Iterable[str], why: ForgetReason
) -> Forgotten:
    """Delete the spans, events, links and summaries of traces; ids that are unknown are passed
    over. Spans that a living process has open stay: it will end them, or say so again.
    """
    going = _Going(connection, trace_ids)
    if not going.traces:
        return Forgotten()
    going.find_spans()
    spans = count_gone(connection, why, len(going.traces))
    going.delete()
    return Forgotten(len(going.traces), spans)


class _Going:
    """The traces that go and the ids of their rows, in temporary tables of the connection."""

    def __init__(self, connection: sqlite3.Connection, trace_ids: Iterable[str]) -> None:
        self._connection = connection
        for statement in (
            "CREATE TEMP TABLE IF NOT EXISTS going (trace_id TEXT PRIMARY KEY) WITHOUT ROWID",
            "DELETE FROM temp.going",
            *EMPTY_GONE,
        ):
            connection.execute(statement)
        connection.executemany(
            "INSERT OR IGNORE INTO temp.going SELECT trace_id FROM traces WHERE trace_id = ?",
            ((trace,) for trace in trace_ids),
        )
        #: Id, finished spans, first and last row.
        self.traces: list[tuple[str, int, int, int]] = connection.execute(
            "SELECT trace_id, spans, first_span, last_span FROM temp.going JOIN traces"
            " USING (trace_id) ORDER BY first_span"
        ).fetchall()

    def find_spans(self) -> None:
        strewn = [t for t in self.traces if t[3] - t[2] > (t[1] + 1) * _STREWN]
        near = [t for t in self.traces if t[3] - t[2] <= (t[1] + 1) * _STREWN]
        for trace, spans, first, last in strewn:
            if self._walk(trace) < spans:
                near.append((trace, spans, first, last))
        for first, last in _merged(sorted((first, last) for _, _, first, last in near)):
            self._connection.execute(
                "INSERT OR IGNORE INTO temp.gone SELECT s.id FROM spans AS s NOT INDEXED"
                " WHERE s.id BETWEEN ? AND ? AND s.trace_id IN (SELECT trace_id FROM temp.going)",
                (first, last),
            )
        # What a living process has open stays.
        self._connection.execute(
            "DELETE FROM temp.gone WHERE id IN (SELECT o.id FROM spans AS o INDEXED BY open_spans"
            " JOIN processes AS p ON p.id = o.process"
            " WHERE o.end_ns IS NULL AND p.state = 'running')"
        )

    def _walk(self, trace: str) -> int:
        """Find spans from the roots down; how many finished ones were found."""
        self._connection.execute(
            """INSERT OR IGNORE INTO temp.gone
            WITH RECURSIVE found (id, span_id) AS (
                SELECT id, span_id FROM spans INDEXED BY local_roots
                WHERE trace_id = :trace AND (parent_span_id IS NULL OR remote_parent = 1)
                UNION
                SELECT c.id, c.span_id FROM awaited AS a
                JOIN spans AS c ON c.parent_span_id = a.span_id AND c.trace_id = a.trace_id
                WHERE a.trace_id = :trace
                UNION
                SELECT c.id, c.span_id FROM found
                JOIN spans AS c ON c.parent_span_id = found.span_id AND c.trace_id = :trace
            )
            SELECT id FROM found""",
            {"trace": trace},
        )
        (count,) = self._connection.execute(
            "SELECT count(*) FROM temp.gone JOIN spans USING (id)"
            " WHERE spans.trace_id = ? AND spans.end_ns IS NOT NULL",
            (trace,),
        ).fetchone()
        return int(count)

    def delete(self) -> None:
        connection = self._connection
        for statement in DELETE_GONE:
            connection.execute(statement)
        # Where something stays, the trace stays too, as far as it is there.
        left = connection.execute(
            "SELECT o.trace_id, min(o.id), max(o.id), min(o.start_ns)"
            " FROM spans AS o INDEXED BY open_spans JOIN temp.going USING (trace_id)"
            " WHERE o.end_ns IS NULL GROUP BY o.trace_id"
        ).fetchall()
        for trace, first, last, start in left:
            connection.execute(
                "UPDATE traces SET spans = 0, errors = 0, bytes = 0, first_span = ?, last_span = ?,"
                " start_ns = ?, changed = 1 WHERE trace_id = ?",
                (first, last, start, trace),
            )
            connection.execute("DELETE FROM temp.going WHERE trace_id = ?", (trace,))
        for table in ("awaited", "let_go", "segments", "traces"):
            connection.execute(
                f"DELETE FROM {table} WHERE trace_id IN (SELECT trace_id FROM temp.going)"
            )
        connection.execute("DELETE FROM temp.going")
        connection.execute("DELETE FROM temp.gone")


def _merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges without overlaps, in order."""
    current: tuple[int, int] | None = None
    for first, last in ranges:
        if current is None or first > current[1]:
            if current is not None:
                yield current
            current = first, last
        elif last > current[1]:
            current = current[0], last
    if current is not None:
        yield current
