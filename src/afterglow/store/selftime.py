"""Self time, kept in `spans.self_ns` while folding.

Spans come in the order in which they ended, in portions. A span whose children are all in
its own portion, as most are, is worked out there. Where a portion boundary, a fold or another
process lies between a span and its children, the children are read back by the index on
`parent_span_id`, once a portion: when the span itself comes (it was *awaited*), or when a
child comes that ended after its parent. Nothing but the portion is held in memory.

Children that have not ended take no part; a span that has not ended has no self time.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence

from afterglow.analyse.cover import covered_ns
from afterglow.store.rows import Rows

__all__ = ["Key", "Portion", "settle"]

#: Trace id and span id, as text.
Key = tuple[str, str]


class Portion:
    """The self times of the spans of one portion, as far as the portion knows."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        #: By parent: the intervals of its children in this portion.
        self.children: dict[Key, list[tuple[int, int]]] = defaultdict(list)
        #: Parents of spans that have not ended: they too must be known to be missing.
        self.open_parents: set[Key] = set()
        self._met: set[Key] = set()
        children = self.children
        for rows in parts:
            for trace, parent, own, start, end in zip(
                rows.trace_id, rows.parent_span_id, rows.span_id, rows.start_ns, rows.end_ns,
                strict=True,
            ):  # fmt: skip
                if parent is None or parent == own:
                    continue
                if end is None:
                    self.open_parents.add((trace, parent))
                else:
                    children[trace, parent].append((start, end))
        for intervals in children.values():
            intervals.sort()
        #: The parents' ids alone: quicker to ask for, and nearly always enough.
        self._parents = {span for _, span in children}

    def self_times(self, rows: Rows) -> list[int | None]:
        """The self time of each row, from its children in this portion."""
        children, met, parents = self.children, self._met, self._parents
        result = list(rows.duration_ns)
        for row, span in enumerate(rows.span_id):
            if span not in parents:
                continue
            key = rows.trace_id[row], span
            end = rows.end_ns[row]
            if key in children and end is not None:
                met.add(key)
                start = rows.start_ns[row]
                result[row] = end - start - covered_ns(children[key], start, end)
        return result

    def elsewhere(self) -> dict[Key, int]:
        """Parents that are not in this portion, with the start of their first child here."""
        return {
            key: intervals[0][0] for key, intervals in self.children.items() if key not in self._met
        }


def settle(connection: sqlite3.Connection, portion: Portion, first_id: int) -> None:
    """Make right what a portion could not know; call it in the transaction that inserted it.

    `first_id` is the id of the portion's first row.
    """
    arrived = connection.execute(
        "SELECT s.trace_id, s.span_id FROM spans AS s CROSS JOIN awaited AS a"
        " ON a.trace_id = s.trace_id AND a.span_id = s.span_id"
        " WHERE s.id >= ? AND s.end_ns IS NOT NULL",
        (first_id,),
    ).fetchall()
    _work_out(connection, arrived)
    connection.executemany("DELETE FROM awaited WHERE trace_id = ? AND span_id = ?", arrived)
    late: list[Key] = []
    absent: list[Key] = []
    for key, first_start_ns in portion.elsewhere().items():
        end_ns = _end_of(connection, key)
        if end_ns is None:
            absent.append(key)
        elif first_start_ns < end_ns:
            late.append(key)
    _work_out(connection, late)
    absent.extend(key for key in portion.open_parents if _end_of(connection, key) is None)
    connection.executemany("INSERT OR IGNORE INTO awaited VALUES (?, ?)", absent)


def _end_of(connection: sqlite3.Connection, key: Key) -> int | None:
    """When a span ended, if it is in the file and has."""
    row = connection.execute(
        "SELECT max(end_ns) FROM spans WHERE span_id = ? AND trace_id = ?", (key[1], key[0])
    ).fetchone()
    end_ns: int | None = row[0]
    return end_ns


def _covered(connection: sqlite3.Connection, trace: str, span: str, start: int, end: int) -> int:
    """How much of a span its children take, forgotten ones too."""
    gone = connection.execute(
        "SELECT until_ns, covered_ns FROM let_go WHERE trace_id = ? AND span_id = ?", (trace, span)
    ).fetchone()
    until_ns, covered = gone or (start, 0)
    children = connection.execute(
        "SELECT start_ns, end_ns FROM spans WHERE parent_span_id = ? AND trace_id = ?"
        " AND end_ns IS NOT NULL AND span_id <> parent_span_id ORDER BY start_ns",
        (span, trace),
    )
    return min(end - start, covered + covered_ns(children, max(start, until_ns), end))


def _work_out(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Compute the self time of spans from all their children in the file."""
    for trace, span in keys:
        rows = connection.execute(
            "SELECT id, start_ns, end_ns FROM spans"
            " WHERE span_id = ? AND trace_id = ? AND end_ns IS NOT NULL",
            (span, trace),
        ).fetchall()
        for row, start, end in rows:
            self_ns = end - start - _covered(connection, trace, span, start, end)
            connection.execute("UPDATE spans SET self_ns = ? WHERE id = ?", (self_ns, row))
