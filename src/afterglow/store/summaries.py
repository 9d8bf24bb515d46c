"""Which traces are in the file: one row each in `traces`, kept up with the spans that come.

A look costs what is new: spans have ids that only go up (`looked_at` remembers the last one that
was seen, and folding never gives an id below it again), so a window of new ids is grouped by
trace and added to what is known. Everything here is done inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from afterglow.analyse.histogram import decode_histogram, encode_histogram, halved, percentile
from afterglow.analyse.statistics import buckets
from afterglow.model.kept import History, TraceSummary

__all__ = [
    "TRACE_BYTES",
    "Looked",
    "changed_traces",
    "histories",
    "mark_changed",
    "mark_entered",
    "note_going_on",
    "pinned_traces",
    "read_traces",
    "set_pinned",
    "span_bytes",
    "summarise",
]

#: About what a row of spans takes beside its attributes, with its part of the indexes; and what
#: an event or a link does. Measured; it only decides in how large steps room is made.
_ROW_BYTES: Final = 220
_EXTRA_BYTES: Final = 150
#: And what a trace's own row and its entry take.
TRACE_BYTES: Final = 600

#: The past of a name counts half when it has so many traces, so that what is usual may change.
_LONG_HISTORY: Final = 20_000
#: So many names are remembered; those seen longest ago go first.
_MOST_NAMES: Final = 10_000


def span_bytes(table: str) -> str:
    """SQL for about what a row of spans takes."""
    return (
        f"{_ROW_BYTES} + length({table}.attributes)"
        f" + {_EXTRA_BYTES} * ({table}.event_count + {table}.link_count)"
    )


_NEW: Final = f"""
INSERT INTO traces (trace_id, service, name, start_ns, end_ns, spans, errors, bytes,
                    first_span, last_span)
SELECT trace_id, '', name, min(start_ns), max(coalesce(end_ns, start_ns)), count(end_ns),
       sum(status = 'error' AND end_ns IS NOT NULL),
       sum({span_bytes("spans")}),
       min(id), max(id)
FROM spans NOT INDEXED WHERE id > ? AND id <= ? GROUP BY trace_id
ON CONFLICT DO UPDATE SET
    start_ns = min(start_ns, excluded.start_ns), end_ns = max(end_ns, excluded.end_ns),
    spans = spans + excluded.spans, errors = errors + excluded.errors,
    bytes = bytes + excluded.bytes, first_span = min(first_span, excluded.first_span),
    last_span = max(last_span, excluded.last_span), changed = 1
"""

# A local root beats none, a true root a local one, and one that has ended one that has not.
_ROOTS: Final = """
SELECT trace_id, process, name, end_ns, duration_ns, status,
       1 + (end_ns IS NOT NULL) + 2 * (parent_span_id IS NULL)
FROM spans NOT INDEXED
WHERE id > ? AND id <= ? AND (parent_span_id IS NULL OR remote_parent = 1)
"""
_LINKS: Final = """
SELECT DISTINCT s.trace_id, k.to_trace_id FROM links AS k JOIN spans AS s ON s.id = k.span
WHERE k.span > ? AND k.span <= ? AND k.to_trace_id <> s.trace_id
"""
_ENDED_ROOTS: Final = (2, 4)


class Looked(msgspec.Struct, frozen=True):
    """What one look took in: how many spans, and links from one trace to another."""

    spans: int = 0
    links: Sequence[tuple[str, str]] = ()


def summarise(connection: sqlite3.Connection, most_spans: int) -> Looked:
    """Take the next new spans into `traces` and `trace_names`; no spans: nothing is new."""
    (seen,) = connection.execute(
        "SELECT coalesce((SELECT value FROM keeping WHERE key = 'looked_at'), 0)"
    ).fetchone()
    count, last = connection.execute(
        "SELECT count(*), max(id) FROM (SELECT id FROM spans WHERE id > ? ORDER BY id LIMIT ?)",
        (seen, most_spans),
    ).fetchone()
    if not count:
        return Looked()
    connection.execute(_NEW, (seen, last))
    _take_roots(connection, seen, last)
    links = connection.execute(_LINKS, (seen, last)).fetchall()
    connection.execute("INSERT OR REPLACE INTO keeping VALUES ('looked_at', ?)", (last,))
    return Looked(count, links)


def _take_roots(connection: sqlite3.Connection, seen: int, last: int) -> None:
    services = _Services(connection)
    known: list[tuple[Any, ...]] = []
    ended: defaultdict[tuple[str, str], list[tuple[int, int, bool]]] = defaultdict(list)
    for trace, process, name, end_ns, duration_ns, status, rank in connection.execute(
        _ROOTS, (seen, last)
    ):
        service = services.of(process)
        known.append((service, name, duration_ns, status, rank, trace, rank))
        if rank in _ENDED_ROOTS:
            ended[service, name].append((duration_ns, end_ns, status == "error"))
    connection.executemany(
        "UPDATE traces SET service = ?, name = ?, duration_ns = ?, status = ?, root = ?"
        " WHERE trace_id = ? AND root < ?",
        known,
    )
    for key, roots in ended.items():
        _add_to_history(connection, key, roots)
    if ended:
        _forget_names(connection)


class _Services:
    """The service of a process, by its row."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, str] = {}

    def of(self, process: int) -> str:
        service = self._known.get(process)
        if service is None:
            row = self._connection.execute(
                "SELECT resource FROM processes WHERE id = ?", (process,)
            ).fetchone()
            resource = msgspec.json.decode(row[0], type=dict[str, Any]) if row else {}
            service = self._known[process] = str(resource.get("service.name", ""))
        return service


# --- what is usual ------------------------------------------------------------------------


def _add_to_history(
    connection: sqlite3.Connection, key: tuple[str, str], roots: Sequence[tuple[int, int, bool]]
) -> None:
    row = connection.execute(
        "SELECT traces, errors, seen_ns, histogram FROM trace_names WHERE service = ? AND name = ?",
        key,
    ).fetchone()
    traces, errors, seen_ns, encoded = row or (0, 0, 0, encode_histogram({}))
    counts = decode_histogram(encoded)
    if traces >= _LONG_HISTORY:
        counts, errors = halved(counts), errors // 2
    counts.update(buckets([duration for duration, _, _ in roots]))
    connection.execute(
        "INSERT OR REPLACE INTO trace_names VALUES (?, ?, ?, ?, ?, ?)",
        (
            *key,
            sum(counts.values()),
            errors + sum(failed for _, _, failed in roots),
            max(seen_ns, *(end for _, end, _ in roots)),
            encode_histogram(counts),
        ),
    )


def _forget_names(connection: sqlite3.Connection) -> None:
    (names,) = connection.execute("SELECT count(*) FROM trace_names").fetchone()
    if names > _MOST_NAMES:
        connection.execute(
            "DELETE FROM trace_names WHERE (service, name) IN"
            " (SELECT service, name FROM trace_names ORDER BY seen_ns LIMIT ?)",
            (names - _MOST_NAMES * 9 // 10,),
        )


def histories(
    connection: sqlite3.Connection, keys: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], History]:
    """What is usual, by service and name; names that are not known are left out."""
    found: dict[tuple[str, str], History] = {}
    for key in set(keys):
        row = connection.execute(
            "SELECT traces, histogram FROM trace_names WHERE service = ? AND name = ?", key
        ).fetchone()
        if row is not None:
            counts = decode_histogram(row[1])
            found[key] = History(row[0], percentile(counts, 0.5), percentile(counts, 0.99))
    return found


# --- what goes on, and what an entry does not know yet ------------------------------------

_OPEN: Final = """
SELECT o.trace_id FROM spans AS o INDEXED BY open_spans JOIN processes AS p ON p.id = o.process
WHERE o.end_ns IS NULL AND p.state = 'running'
"""
# A child came before its parent, whose process lives: the parent will come.
_AWAITED: Final = """
SELECT 1 FROM awaited AS a
JOIN spans AS c ON c.parent_span_id = a.span_id AND c.trace_id = a.trace_id
JOIN processes AS p ON p.id = c.process
WHERE a.trace_id = ? AND p.state = 'running' AND c.remote_parent = 0
"""


def note_going_on(connection: sqlite3.Connection) -> None:
    """Bring `going_on` up to date for traces that have changed and those that went on before.

    While a trace goes on its self times are not settled, so it must not be forgotten.
    """
    still_open = {trace for (trace,) in connection.execute(_OPEN)}
    candidates = connection.execute(
        "SELECT trace_id, going_on FROM traces WHERE changed = 1"
        " UNION SELECT trace_id, going_on FROM traces WHERE going_on = 1"
    ).fetchall()
    found = []
    for trace, before in candidates:
        now = trace in still_open or connection.execute(_AWAITED, (trace,)).fetchone() is not None
        if now != bool(before):
            found.append((int(now), trace))
    connection.executemany("UPDATE traces SET going_on = ?, changed = 1 WHERE trace_id = ?", found)


_COLUMNS: Final = (
    "trace_id, service, name, start_ns, end_ns, duration_ns, status, spans, errors, bytes,"
    " last_span, going_on, pinned"
)


def _summary(row: Sequence[Any]) -> TraceSummary:
    summary = TraceSummary(*row)
    return msgspec.structs.replace(summary, going_on=bool(row[-2]), pinned=bool(row[-1]))


def changed_traces(connection: sqlite3.Connection, most: int) -> list[TraceSummary]:
    """Traces whose entry does not know of them yet, or not as they are."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM traces INDEXED BY traces_changed WHERE changed = 1 LIMIT ?",
        (most,),
    )
    return [_summary(row) for row in rows]


def read_traces(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, TraceSummary]:
    """Summaries by id; what is not there is left out."""
    found: dict[str, TraceSummary] = {}
    for trace in ids:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM traces WHERE trace_id = ?", (trace,)
        ).fetchone()
        if row is not None:
            found[trace] = _summary(row)
    return found


def mark_entered(
    connection: sqlite3.Connection, traces: Iterable[tuple[TraceSummary, str, str]]
) -> None:
    """Their entries know of them as they are in these summaries, as of this kind and why.

    One that has changed since stays, or becomes, changed: its entry must be made again.
    """
    for trace, kind, why in traces:
        done = connection.execute(
            "UPDATE traces SET changed = 0, kind = ?, why = ?"
            " WHERE trace_id = ? AND last_span = ? AND going_on = ? AND pinned = ?",
            (kind, why, trace.trace_id, trace.last_span, trace.going_on, trace.pinned),
        )
        if not done.rowcount:
            mark_changed(connection, [trace.trace_id])


def mark_changed(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Their entries are to be made again."""
    connection.executemany(
        "UPDATE traces SET changed = 1 WHERE trace_id = ?", ((trace,) for trace in ids)
    )


def set_pinned(connection: sqlite3.Connection, trace_id: str, pinned: bool) -> bool:
    """Pin or unpin a trace, whose entry is made again; whether it was pinned before."""
    done = connection.execute(
        "UPDATE traces SET pinned = ?, changed = 1 WHERE trace_id = ? AND pinned <> ?",
        (pinned, trace_id, pinned),
    )
    return pinned != bool(done.rowcount)


def pinned_traces(connection: sqlite3.Connection) -> list[str]:
    """The ids of all pinned traces."""
    rows = connection.execute("SELECT trace_id FROM traces WHERE pinned = 1").fetchall()
    return [trace for (trace,) in rows]
