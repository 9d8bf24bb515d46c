"""Forgetting traces: their spans go, and what they came to is added to `forgotten`.

Everything is done inside the caller's transaction, so that an entry, its spans and the figures
that stay are changed together or not at all. There is no index of all spans by trace (it would
be written all over, for trace ids are random): the rows of a trace lie between two ids that
`traces` remembers, so the ranges of all that go are merged, and read once in the order of ids.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from afterglow.analyse.histogram import decode_histogram, encode_histogram
from afterglow.analyse.statistics import Statistics, buckets
from afterglow.ledger import ForgetReason

__all__ = ["Forgotten", "add_forgotten", "forget_traces"]

_AT_ONCE: Final = 16_384
_LARGEST: Final = (1 << 63) - 1
#: A trace whose rows are strewn over more ids than this many for each of its spans is found by
#: its parents and children instead.
_STREWN: Final = 256


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
    figures = _figures(connection)
    spans_of: Counter[int] = Counter()
    for (process, name), figure in figures.items():
        spans_of[process] += figure.spans
        _add_figure(connection, process, name, figure)
    connection.executemany(
        "INSERT INTO ledger VALUES (?, 'forgotten', ?, ?)"
        " ON CONFLICT DO UPDATE SET spans = spans + excluded.spans",
        ((process, why, spans) for process, spans in spans_of.items() if spans),
    )
    connection.executemany(
        "INSERT INTO keeping VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(f"forgotten_{why}", len(going.traces)), ("forgotten_spans", spans_of.total())],
    )
    going.delete()
    return Forgotten(len(going.traces), spans_of.total())


class _Going:
    """The traces that go and the ids of their rows, in temporary tables of the connection."""

    def __init__(self, connection: sqlite3.Connection, trace_ids: Iterable[str]) -> None:
        self._connection = connection
        for statement in (
            "CREATE TEMP TABLE IF NOT EXISTS going (trace_id TEXT PRIMARY KEY) WITHOUT ROWID",
            "CREATE TEMP TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY)",
            "DELETE FROM temp.going",
            "DELETE FROM temp.gone",
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
        for statement in (
            "DELETE FROM events WHERE span IN (SELECT id FROM temp.gone)",
            "DELETE FROM links WHERE span IN (SELECT id FROM temp.gone)",
            "DELETE FROM spans WHERE id IN (SELECT id FROM temp.gone)",
        ):
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
        for table in ("awaited", "traces"):
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


# --- the figures that stay ----------------------------------------------------------------


class _Figure:
    """What the spans of one name in one process came to."""

    __slots__ = ("counts", "errors", "interrupted", "max", "min", "self", "spans", "total")

    def __init__(self) -> None:
        self.spans = self.errors = self.interrupted = self.total = self.self = self.max = 0
        self.min = _LARGEST
        self.counts: Counter[int] = Counter()

    def add(self, durations: Sequence[int], self_ns: int, errors: int) -> None:
        self.spans += len(durations)
        self.errors += errors
        self.total += sum(durations)
        self.self += self_ns
        self.min = min(self.min, *durations)
        self.max = max(self.max, *durations)
        self.counts.update(buckets(durations))


def _figures(connection: sqlite3.Connection) -> dict[tuple[int, str], _Figure]:
    """The figures of all rows in temp.gone, by process and name."""
    found: defaultdict[tuple[int, str], _Figure] = defaultdict(_Figure)
    rows = connection.execute(
        "SELECT s.process, s.name, s.duration_ns, coalesce(s.self_ns, s.duration_ns),"
        " s.status = 'error' FROM temp.gone CROSS JOIN spans AS s USING (id)"
    )
    while portion := rows.fetchmany(_AT_ONCE):
        ended: defaultdict[tuple[int, str], list[tuple[Any, ...]]] = defaultdict(list)
        for process, name, duration, *rest in portion:
            if duration is None:
                found[process, name].interrupted += 1
            else:
                ended[process, name].append((duration, *rest))
        for key, group in ended.items():
            durations, self_times, errors = zip(*group, strict=True)
            found[key].add(durations, sum(self_times), sum(errors))
    return found


def _add_figure(connection: sqlite3.Connection, process: int, name: str, figure: _Figure) -> None:
    row = connection.execute(
        "SELECT spans, errors, interrupted, total_ns, self_ns, min_ns, max_ns, histogram"
        " FROM forgotten WHERE process = ? AND name = ?",
        (process, name),
    ).fetchone()
    if row is not None:
        spans, errors, interrupted, total, self_ns, low, high, histogram = row
        if spans:
            figure.min, figure.max = min(figure.min, low), max(figure.max, high)
        figure.spans += spans
        figure.errors += errors
        figure.interrupted += interrupted
        figure.total += int(total)
        figure.self += int(self_ns)
        figure.counts.update(decode_histogram(histogram))
    connection.execute(
        "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            process, name, figure.spans, figure.errors, figure.interrupted,
            _number(figure.total), _number(figure.self),
            figure.min if figure.spans else 0, figure.max, encode_histogram(figure.counts),
        ),
    )  # fmt: skip


def add_forgotten(
    connection: sqlite3.Connection, statistics: Statistics, run_id: str | None, name: str | None
) -> int:
    """Add what was forgotten, of a run and a name or of all, to statistics; how many spans."""
    rows = connection.execute(
        "SELECT f.name, f.spans, f.errors, f.interrupted, f.total_ns, f.self_ns, f.min_ns,"
        " f.max_ns, f.histogram FROM forgotten AS f JOIN processes AS p ON p.id = f.process"
        " WHERE (:run IS NULL OR p.run_id = :run) AND (:name IS NULL OR f.name = :name)",
        {"run": run_id, "name": name},
    )
    count = 0
    for of, spans, errors, interrupted, total, self_ns, low, high, histogram in rows:
        count += spans
        if interrupted:
            statistics.add_interrupted(of, interrupted)
        if spans:
            statistics.add_counted(
                of,
                decode_histogram(histogram),
                total_ns=int(total),
                self_ns=int(self_ns),
                min_ns=low,
                max_ns=high,
                errors=errors,
            )
    return count


def _number(value: int) -> int | str:
    """As a column of 64 bits has it; longer ones as text."""
    return value if -_LARGEST <= value <= _LARGEST else str(value)
