"""Putting spans, books and counts into the tables; always inside the caller's transaction,
but for `insert_spans`, which makes its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, islice, repeat
from pathlib import Path
from typing import Any, Final

import msgspec

from afterglow.ledger import Ledger, new_ledger
from afterglow.model.run import Process
from afterglow.model.span import Span, span_id_hex, trace_id_hex
from afterglow.store.attributes import encode_attributes
from afterglow.store.failures import explained
from afterglow.store.rows import EXTRA_COLUMNS, TYPICAL, Rows, rows_of_spans
from afterglow.store.schema import initialise, verify
from afterglow.store.selftime import Portion, settle

__all__ = [
    "insert_portion",
    "insert_received",
    "insert_spans",
    "put_process",
    "refresh_run",
    "write_books",
]

_PORTION: Final = 16_384

_COLUMNS: Final = (
    "id", "process", "trace_id", "span_id", "parent_span_id", "name", "start_ns", "end_ns",
    "duration_ns", "self_ns", "attributes", "thread_id", "thread_name", "task_name",
)  # fmt: skip


_ENDED: Final = (
    " AND EXISTS (SELECT 1 FROM spans AS e WHERE e.span_id = o.span_id"
    " AND e.trace_id = o.trace_id AND e.process = o.process AND e.end_ns IS NOT NULL)"
)


def _insert(columns: Sequence[str]) -> str:
    return f"INSERT INTO spans ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_INSERT: Final = _insert(_COLUMNS)
_INSERT_ALL: Final = _insert((*_COLUMNS, *EXTRA_COLUMNS))
_MANY: Final = 8


def insert_portion(
    connection: sqlite3.Connection, process: int, parts: Sequence[Rows], still_open: Rows | None
) -> None:
    """Insert finished spans, and replace what the process had open before.

    None for `still_open` leaves the open spans as they are, but for those that have finished.
    """
    if still_open is not None:
        _forget_open(connection, process)
        parts = [*parts, still_open]
    first = _highest_id(connection) + 1
    portion = Portion(parts)
    for rows in parts:
        _insert_rows(connection, process, rows, portion.self_times(rows))
    _forget_open(connection, process, ended=True)
    settle(connection, portion, first)
    _count(connection, process, parts, first, _highest_id(connection))


def insert_received(connection: sqlite3.Connection, parts: Sequence[tuple[int, Rows]]) -> None:
    """Insert finished spans of several processes, whose traces may go through all of them."""
    portion = Portion([rows for _, rows in parts])
    first = _highest_id(connection) + 1
    for process, rows in parts:
        begin = _highest_id(connection) + 1
        _insert_rows(connection, process, rows, portion.self_times(rows))
        _count(connection, process, [rows], begin, begin + len(rows) - 1)
    settle(connection, portion, first)


def _highest_id(connection: sqlite3.Connection) -> int:
    """The highest row id that `spans` has or retention has seen: ids never come again."""
    highest: int = connection.execute(
        "SELECT max(coalesce((SELECT max(id) FROM spans), 0),"
        " coalesce((SELECT value FROM keeping WHERE key = 'looked_at'), 0))"
    ).fetchone()[0]
    return highest


def _forget_open(connection: sqlite3.Connection, process: int, *, ended: bool = False) -> None:
    """Delete the open spans of a process; with `ended` only those that are there as ended too."""
    which = f"SELECT id FROM spans AS o WHERE process = ? AND end_ns IS NULL{_ENDED * ended}"
    gone = connection.execute(which, (process,)).fetchall()
    for statement in (
        "DELETE FROM events WHERE span = ?",
        "DELETE FROM links WHERE span = ?",
        "DELETE FROM spans WHERE id = ?",
    ):
        connection.executemany(statement, gone)


def _insert_rows(
    connection: sqlite3.Connection, process: int, rows: Rows, self_ns: Sequence[int | None]
) -> None:
    """The many rows that need no more than the usual columns, and the few that have all.

    Ids go up with the rows, so that spans are read in the order in which they came.
    """
    first = _highest_id(connection) + 1
    ids = range(first, first + len(rows))
    values = zip(
        ids, repeat(process), rows.trace_id, rows.span_id, rows.parent_span_id, rows.name,
        rows.start_ns, rows.end_ns, rows.duration_ns, self_ns, rows.attributes,
        rows.thread_id, rows.thread_name, rows.task_name,
    )  # fmt: skip
    if not rows.extras:
        connection.executemany(_INSERT, values)
        return
    extras = rows.extras
    everything = list(values)
    if len(extras) * _MANY < len(rows):
        usual = [row not in extras for row in range(len(rows))]
        connection.executemany(_INSERT, compress(everything, usual))
        connection.executemany(
            _INSERT_ALL, ((*everything[row], *extra) for row, extra in extras.items())
        )
    else:  # rows put between rows split pages: better all of them in order
        connection.executemany(
            _INSERT_ALL,
            ((*usual, *extras.get(row, TYPICAL)) for row, usual in enumerate(everything)),
        )
    connection.executemany(
        "INSERT INTO events (span, time_ns, name, attributes, dropped_attributes)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            (ids[row], e.time_ns, e.name, encode_attributes(e.attributes), e.dropped_attributes)
            for row, events in rows.events.items()
            for e in events
        ),
    )
    connection.executemany(
        "INSERT INTO links (span, to_trace_id, to_span_id, trace_state, attributes,"
        " dropped_attributes) VALUES (?, ?, ?, ?, ?, ?)",
        (
            (ids[row], trace_id_hex(k.trace_id), span_id_hex(k.span_id), k.trace_state,
             encode_attributes(k.attributes), k.dropped_attributes)
            for row, links in rows.links.items()
            for k in links
        ),
    )  # fmt: skip


def _count(
    connection: sqlite3.Connection, process: int, parts: Sequence[Rows], first: int, last: int
) -> None:
    """Bring the counters of a process up to date with the rows `first` to `last`."""
    ended = sum(len(rows) - rows.open_rows for rows in parts)
    seen = 0
    for rows in parts:
        seen = max(seen, max(rows.start_ns, default=0), max(filter(None, rows.end_ns), default=0))
    connection.execute(
        "UPDATE processes SET spans = spans + ?, errors = errors + ?,"
        " seen_ns = max(seen_ns, ?), open_spans ="
        " (SELECT count(*) FROM spans WHERE process = ? AND end_ns IS NULL) WHERE id = ?",
        (ended, sum(rows.errors for rows in parts), seen, process, process),
    )
    if last >= first:
        connection.execute(
            "UPDATE processes SET first_span = min(coalesce(first_span, ?), ?), last_span ="
            " max(coalesce(last_span, 0), ?) WHERE id = ?",
            (first, first, last, process),
        )


# --- processes, runs, books ---------------------------------------------------------------


def put_process(
    connection: sqlite3.Connection, process: Process, *, state: str, journal: str = ""
) -> int:
    """The row of a process, made or brought up to date; its id."""
    text = msgspec.json.encode
    rows = connection.execute(
        "INSERT INTO processes (run_id, pid, start_ns, parent_pid, argv, host, end_ns,"
        " exit_status, resource, state, journal, seen_ns) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT (run_id, pid, start_ns) DO UPDATE SET parent_pid = excluded.parent_pid,"
        " argv = excluded.argv, host = excluded.host, end_ns = excluded.end_ns,"
        " exit_status = excluded.exit_status, resource = excluded.resource,"
        " state = excluded.state, journal = excluded.journal RETURNING id",
        (
            process.run_id, process.pid, process.start_ns, process.parent_pid,
            text(process.argv).decode(), process.host, process.end_ns, process.exit_status,
            text(process.resource).decode(), state, journal, process.start_ns,
        ),
    ).fetchall()  # fmt: skip
    identity: int = rows[0][0]
    return identity


def write_books(
    connection: sqlite3.Connection,
    process: int,
    ledger: Mapping[str, Any],
    counts: Mapping[str, int],
) -> None:
    """Replace the books and the counted calls of a process by newer ones."""
    connection.execute(
        "DELETE FROM ledger WHERE process = ?"
        " AND counter NOT IN ('rescued', 'damaged', 'forgotten')",
        (process,),
    )
    lines: list[tuple[int, str, str, int]] = []
    for counter, value in ledger.items():
        if isinstance(value, Mapping):
            lines.extend((process, counter, reason, spans) for reason, spans in value.items())
        else:
            lines.append((process, counter, "", value))
    connection.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?)", lines)
    connection.executemany(
        "INSERT OR REPLACE INTO counts VALUES (?, ?, ?)",
        ((process, name, calls) for name, calls in counts.items()),
    )


_REFRESH: Final = """
WITH mine AS (SELECT * FROM processes WHERE run_id = :run),
-- The first process stands for the run: the one that began first and was not forked or
-- started by another one of the run.
first AS (
    SELECT * FROM mine AS p
    ORDER BY EXISTS (SELECT 1 FROM mine AS q WHERE q.pid = p.parent_pid AND q.pid <> p.pid),
             start_ns, id
    LIMIT 1
),
-- What went by the writer's bound after it had been folded is not lost.
rescued AS (
    SELECT coalesce(sum(min(r.spans, gone.spans)), 0) AS spans
    FROM ledger AS r JOIN ledger AS gone ON gone.process = r.process
         AND gone.counter = 'dropped' AND gone.reason = 'journal_limit'
    WHERE r.counter = 'rescued' AND r.process IN (SELECT id FROM mine)
),
lost AS (
    SELECT coalesce(sum(spans), 0) - (SELECT spans FROM rescued) AS spans FROM ledger
    WHERE process IN (SELECT id FROM mine) AND counter = 'dropped'
)
INSERT OR REPLACE INTO runs
SELECT :run, first.argv, first.host, (SELECT min(start_ns) FROM mine),
       CASE WHEN EXISTS (SELECT 1 FROM mine WHERE state = 'running') THEN NULL
            WHEN first.end_ns IS NULL THEN NULL
            ELSE (SELECT max(end_ns) FROM mine) END,
       first.exit_status,
       CASE WHEN EXISTS (SELECT 1 FROM mine WHERE state = 'running') THEN 'running'
            ELSE first.state END,
       (SELECT count(DISTINCT pid) FROM mine), (SELECT sum(spans) FROM mine),
       (SELECT sum(errors) FROM mine), (SELECT sum(open_spans) FROM mine),
       lost.spans, first.resource
FROM first, lost
"""


def refresh_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Bring the row of a run up to date with its processes."""
    connection.execute(_REFRESH, {"run": run_id})


# --- spans from elsewhere -----------------------------------------------------------------


def insert_spans(database: Path, spans: Iterable[Span], process: Process) -> int:
    """Put spans that were recorded elsewhere into a database, as one process of a run.

    All or nothing, and once: where the run's id is in the file already, nothing is read or
    changed and 0 is returned, else the number of spans. The file is made if it is not there.
    The spans' own `run_id` and `pid` do not matter. Raises StoreError.
    """
    database = Path(database)
    if database.exists():
        verify(database)
    with explained(database):
        connection = initialise(database)
        try:
            connection.execute("BEGIN IMMEDIATE")
            known = connection.execute(
                "SELECT 1 FROM processes WHERE run_id = ? LIMIT 1", (process.run_id,)
            ).fetchone()
            count = 0 if known else _insert_all(connection, iter(spans), process)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.close()
    return count


def _insert_all(connection: sqlite3.Connection, spans: Iterable[Span], process: Process) -> int:
    identity = put_process(connection, process, state="finished")
    count = ended = 0
    while portion := list(islice(spans, _PORTION)):
        rows = rows_of_spans(portion)
        insert_portion(connection, identity, [rows], None)
        count += len(rows)
        ended += len(rows) - rows.open_rows
    books: Ledger = new_ledger()
    books["recorded"] = books["written"] = ended
    write_books(connection, identity, books, {})
    refresh_run(connection, process.run_id)
    return count
