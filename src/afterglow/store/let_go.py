"""Letting go of a trace that goes on, in parts: its oldest spans go, and it stays.

A program whose main function is a span is one trace for months. It must not fill the file: what
it has ended longest ago is forgotten while it goes on. Self times stay right: what forgotten
children take of a parent that is not forgotten with them is remembered in `let_go`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Final

from afterglow.analyse.cover import covered_ns
from afterglow.store.figures import count_gone
from afterglow.store.forget import DELETE_GONE, EMPTY_GONE, Forgotten
from afterglow.store.summaries import span_bytes

__all__ = ["going_on_bytes", "let_go_oldest"]

_NEVER: Final = 1 << 63

_WHICH: Final = "SELECT trace_id FROM traces WHERE going_on = 1 AND pinned = 0"
_OLDEST: Final = f"""
INSERT INTO temp.gone SELECT s.id FROM spans AS s NOT INDEXED
WHERE s.id >= (SELECT min(first_span) FROM traces WHERE going_on = 1 AND pinned = 0)
  AND s.id <= (SELECT value FROM keeping WHERE key = 'looked_at')
  AND s.end_ns IS NOT NULL AND (:errors OR s.status <> 'error') AND s.trace_id IN ({_WHICH})
ORDER BY s.id LIMIT :most
"""
# Children whose parent stays, is still open, or is yet to come, by parent.
_LEAVING: Final = """
SELECT s.trace_id, s.parent_span_id, s.start_ns, s.end_ns
FROM temp.gone CROSS JOIN spans AS s USING (id)
WHERE s.parent_span_id IS NOT NULL AND s.parent_span_id <> s.span_id
  AND NOT EXISTS (SELECT 1 FROM spans AS p JOIN temp.gone AS g ON g.id = p.id
                  WHERE p.span_id = s.parent_span_id AND p.trace_id = s.trace_id)
ORDER BY s.trace_id, s.parent_span_id, s.start_ns
"""
# Children that stay behind are orphans from now on, and found as such.
_LEFT_BEHIND: Final = """
INSERT OR IGNORE INTO awaited
SELECT c.trace_id, c.parent_span_id FROM temp.gone CROSS JOIN spans AS s USING (id)
JOIN spans AS c ON c.parent_span_id = s.span_id AND c.trace_id = s.trace_id
WHERE c.id NOT IN (SELECT id FROM temp.gone)
"""
_NO_LONGER_NEEDED: Final = """
DELETE FROM let_go WHERE (trace_id, span_id) IN
(SELECT s.trace_id, s.span_id FROM temp.gone CROSS JOIN spans AS s USING (id))
"""
_SUMMARIES: Final = f"""
UPDATE traces SET spans = traces.spans - gone.spans, errors = traces.errors - gone.errors,
    bytes = max(0, traces.bytes - gone.bytes),
    first_span = coalesce((SELECT s.id FROM spans AS s NOT INDEXED WHERE s.id >= gone.first
                           AND s.trace_id = traces.trace_id
                           AND s.id NOT IN (SELECT id FROM temp.gone) ORDER BY s.id LIMIT 1),
                          traces.last_span)
FROM (SELECT s.trace_id, min(s.id) AS first, count(*) AS spans, sum(s.status = 'error') AS errors,
             sum({span_bytes("s")}) AS bytes
      FROM temp.gone CROSS JOIN spans AS s USING (id) GROUP BY s.trace_id) AS gone
WHERE traces.trace_id = gone.trace_id
"""


def going_on_bytes(connection: sqlite3.Connection) -> int:
    """About what traces that go on take in the file, but for pinned ones."""
    (size,) = connection.execute(
        "SELECT coalesce(sum(bytes), 0) FROM traces WHERE going_on = 1 AND pinned = 0"
    ).fetchone()
    return int(size)


def let_go_oldest(connection: sqlite3.Connection, most: int) -> Forgotten:
    """Forget the oldest spans of traces that go on, at most so many, in the caller's transaction.

    Those with an error go last.
    """
    for errors in (False, True):
        for statement in EMPTY_GONE:
            connection.execute(statement)
        found = connection.execute(_OLDEST, {"errors": errors, "most": most}).rowcount
        if found > 0:
            break
    else:
        return Forgotten()
    _remember_cover(connection)
    spans = count_gone(connection, "quota", 0)
    for statement in (_LEFT_BEHIND, _NO_LONGER_NEEDED, _SUMMARIES, *DELETE_GONE):
        connection.execute(statement)
    connection.execute("DELETE FROM temp.gone")
    return Forgotten(0, spans)


def _remember_cover(connection: sqlite3.Connection) -> None:
    rows = connection.execute(_LEAVING).fetchall()
    for (trace, parent), group in groupby(rows, key=itemgetter(0, 1)):
        _add_cover(connection, trace, parent, [(start, end) for _, _, start, end in group])


def _add_cover(
    connection: sqlite3.Connection, trace: str, parent: str, intervals: Iterable[tuple[int, int]]
) -> None:
    """What children take, beside what was let go before: they go in the order of their ends, so
    what begins before that reaches over it."""
    intervals = list(intervals)
    before = connection.execute(
        "SELECT until_ns, covered_ns FROM let_go WHERE trace_id = ? AND span_id = ?",
        (trace, parent),
    ).fetchone()
    until_ns, covered = before or (intervals[0][0], 0)
    covered += covered_ns(intervals, until_ns, _NEVER)
    until_ns = max(until_ns, *(end for _, end in intervals))
    connection.execute(
        "INSERT OR REPLACE INTO let_go VALUES (?, ?, ?, ?)", (trace, parent, until_ns, covered)
    )
