"""Runs of which every span is forgotten become one: their books and figures are added up.

A job that runs each minute is half a million runs a year. What stays of a run (its row, books and
figures) is small, but it would fill the file in the end. The sums go into one run, EARLIER, so the
books balance and the statistics of the file stay what they were; single runs can no longer be
asked for. Everything here is done inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from afterglow.store.figures import move_figures
from afterglow.store.insert import refresh_run

__all__ = ["EARLIER", "OTHER_NAMES", "merge_names", "merge_runs"]

EARLIER: Final = "earlier-runs"
OTHER_NAMES: Final = "(other names)"
_AT_ONCE: Final = 64
#: So many names of a process have figures of their own once they are forgotten; the rare ones are
#: added up.
_MOST_NAMES: Final = 10_000

# Nothing of it is left in the file, or can come: no spans, no journals, no process that lives.
# Books that need more than to be added up (rescued spans, damage) stay as they are.
_MERGEABLE: Final = """
SELECT r.run_id FROM runs AS r WHERE r.run_id <> :earlier AND NOT EXISTS (
    SELECT 1 FROM processes AS p WHERE p.run_id = r.run_id AND (
        p.state = 'running'
        OR p.spans > (SELECT coalesce(sum(k.spans), 0) FROM ledger AS k
                      WHERE k.process = p.id AND k.counter = 'forgotten')
        OR EXISTS (SELECT 1 FROM ledger AS k
                   WHERE k.process = p.id AND k.counter IN ('rescued', 'damaged'))
        OR EXISTS (SELECT 1 FROM spans AS o INDEXED BY open_spans
                   WHERE o.process = p.id AND o.end_ns IS NULL)
        OR EXISTS (SELECT 1 FROM folded AS f WHERE f.process = p.id)))
ORDER BY r.start_ns LIMIT :most
"""


def merge_runs(connection: sqlite3.Connection, most: int) -> int:
    """Merge the oldest runs of which nothing is left while there are more than `most`; how many,
    0 when it is done."""
    (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    # With the one that they become, and two at least: one alone would win nothing.
    if runs <= most + 1:
        return 0
    found = connection.execute(
        _MERGEABLE, {"earlier": EARLIER, "most": min(_AT_ONCE, runs - most)}
    ).fetchall()
    if not found:
        return 0
    into = _earlier(connection)
    for (run_id,) in found:
        for (process,) in connection.execute(
            "SELECT id FROM processes WHERE run_id = ?", (run_id,)
        ).fetchall():
            _merge_process(connection, process, into)
        connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    refresh_run(connection, EARLIER)
    return len(found)


def _earlier(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT id FROM processes WHERE run_id = ?", (EARLIER,)).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO processes (run_id, pid, parent_pid, argv, host, start_ns, state)"
            " VALUES (?, 0, 0, '[\"(earlier runs)\"]', '', ?, 'finished') RETURNING id",
            (EARLIER, (1 << 63) - 1),
        ).fetchall()[0]
    return int(row[0])


_ADD_PROCESS: Final = """
UPDATE processes AS e SET start_ns = min(e.start_ns, p.start_ns),
    end_ns = max(coalesce(e.end_ns, 0), p.seen_ns, coalesce(p.end_ns, 0)),
    seen_ns = max(e.seen_ns, p.seen_ns), spans = e.spans + p.spans, errors = e.errors + p.errors,
    open_spans = e.open_spans + p.open_spans
FROM (SELECT * FROM processes WHERE id = :process) AS p WHERE e.id = :into
"""
_ADD_BOOKS: Final = """
INSERT INTO ledger SELECT :into, counter, reason, spans FROM ledger WHERE process = :process
ON CONFLICT DO UPDATE SET spans = spans + excluded.spans
"""
_ADD_COUNTS: Final = """
INSERT INTO counts SELECT :into, name, calls FROM counts WHERE process = :process
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
"""


def _merge_process(connection: sqlite3.Connection, process: int, into: int) -> None:
    both = {"process": process, "into": into}
    for statement in (_ADD_PROCESS, _ADD_BOOKS, _ADD_COUNTS):
        connection.execute(statement, both)
    names = connection.execute(
        "SELECT name FROM forgotten WHERE process = ?", (process,)
    ).fetchall()
    move_figures(connection, [(process, name, into, name) for (name,) in names])
    for table in ("ledger", "counts", "forgotten"):
        connection.execute(f"DELETE FROM {table} WHERE process = ?", (process,))
    connection.execute("DELETE FROM processes WHERE id = ?", (process,))


def merge_names(connection: sqlite3.Connection) -> int:
    """Where a process has very many forgotten names (ids in names), add the rarest up under one;
    how many went. Sums stay what they were."""
    crowded = connection.execute(
        "SELECT process, count(*) FROM forgotten GROUP BY process HAVING count(*) > ?",
        (_MOST_NAMES,),
    ).fetchall()
    merged = 0
    for process, names in crowded:
        rare = connection.execute(
            "SELECT name FROM forgotten WHERE process = ? AND name <> ?"
            " ORDER BY spans, name LIMIT ?",
            (process, OTHER_NAMES, names - _MOST_NAMES // 2),
        ).fetchall()
        move_figures(connection, [(process, name, process, OTHER_NAMES) for (name,) in rare])
        merged += len(rare)
    return merged
