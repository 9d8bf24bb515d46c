"""The figures of spans that are forgotten: counted from their rows, and added to statistics.

`temp.gone` of the connection holds the ids of the rows that are about to go (store/forget.py).
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from afterglow.analyse.histogram import decode_histogram, encode_histogram
from afterglow.analyse.statistics import Statistics, buckets
from afterglow.ledger import ForgetReason

__all__ = ["add_forgotten", "count_gone", "move_figures"]

_AT_ONCE: Final = 16_384
_LARGEST: Final = (1 << 63) - 1


def count_gone(connection: sqlite3.Connection, why: ForgetReason, traces: int) -> int:
    """Add what the rows in temp.gone come to, to `forgotten`, the ledger and `keeping`, before
    they are deleted; `traces` go with them. How many of them have ended."""
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
        [(f"forgotten_{why}", traces), ("forgotten_spans", spans_of.total())],
    )
    return spans_of.total()


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

    def add_row(self, row: tuple[Any, ...] | None) -> None:
        """What a row of `forgotten` says, if there is one."""
        if row is None:
            return
        spans, errors, interrupted, total, self_ns, low, high, histogram = row
        if spans:
            self.min, self.max = min(self.min, low), max(self.max, high)
        self.spans += spans
        self.errors += errors
        self.interrupted += interrupted
        self.total += int(total)
        self.self += int(self_ns)
        self.counts.update(decode_histogram(histogram))


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


def move_figures(
    connection: sqlite3.Connection, moves: Iterable[tuple[int, str, int, str]]
) -> None:
    """Add the forgotten figures of a process and name to those of another process and name, each
    in turn, and delete them there."""
    for process, name, to_process, to_name in moves:
        figure = _Figure()
        figure.add_row(_row(connection, process, name))
        connection.execute("DELETE FROM forgotten WHERE process = ? AND name = ?", (process, name))
        _add_figure(connection, to_process, to_name, figure)


def _row(connection: sqlite3.Connection, process: int, name: str) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(
        "SELECT spans, errors, interrupted, total_ns, self_ns, min_ns, max_ns, histogram"
        " FROM forgotten WHERE process = ? AND name = ?",
        (process, name),
    ).fetchone()
    return row


def _add_figure(connection: sqlite3.Connection, process: int, name: str, figure: _Figure) -> None:
    figure.add_row(_row(connection, process, name))
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
