"""The traces of one project, as retention asks for them; what `store/summaries.py` is for a file.

Writers of spans keep the rows of `trace` up to date themselves; what is usual for a name they leave
to whoever keeps (`new_roots`), for many of them would wait for one row. Each function is done in
the caller's transaction. Trace ids are 32 hexadecimal digits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from afterglow.analyse.histogram import decode_histogram, encode_histogram, halved, percentile
from afterglow.model.kept import History, TraceSummary
from afterglow.store.postgres.connections import Connection
from afterglow.store.postgres.forget import name_key
from afterglow.store.postgres.text import kept, read
from afterglow.store.summaries import Looked

__all__ = [
    "add_up_books",
    "changed_traces",
    "histories",
    "mark_changed",
    "mark_entered",
    "set_pinned",
    "take_new",
]

#: The keepers of a project take turns by this advisory lock ("AGLK").
_TURN: Final = "SELECT pg_advisory_xact_lock(1095191627, %(project_id)s)"
_NEW_ROOTS: Final = """DELETE FROM afterglow_spans.new_roots WHERE id = ANY(ARRAY(
    SELECT id FROM afterglow_spans.new_roots WHERE project_id = %(project_id)s
    ORDER BY id LIMIT %(most)s))
  RETURNING service, name, errors, seen_ns, histogram"""
_NEW_LINKS: Final = """DELETE FROM afterglow_spans.new_link WHERE id = ANY(ARRAY(
    SELECT id FROM afterglow_spans.new_link WHERE project_id = %(project_id)s
    ORDER BY id LIMIT %(most)s))
  RETURNING encode(trace_id, 'hex'), encode(to_trace_id, 'hex')"""
_HISTORY: Final = """SELECT key, traces, errors, seen_ns, histogram FROM afterglow_spans.trace_name
  WHERE project_id = %(project_id)s AND key = ANY(%(keys)s::bytea[])"""
_PUT_HISTORY: Final = """INSERT INTO afterglow_spans.trace_name
  VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
  ON CONFLICT (project_id, key) DO UPDATE SET traces = excluded.traces,
    errors = excluded.errors, seen_ns = excluded.seen_ns, histogram = excluded.histogram"""
_FORGET_NAMES: Final = """DELETE FROM afterglow_spans.trace_name
  WHERE project_id = %(project_id)s AND key = ANY(ARRAY(
    SELECT key FROM afterglow_spans.trace_name WHERE project_id = %(project_id)s
    ORDER BY seen_ns DESC OFFSET %(most)s))"""
_SUMMARY: Final = """encode(trace_id, 'hex'), service, name, start_ns, end_ns, duration_ns, status,
  spans, errors, bytes, version, false, pinned"""
_CHANGED: Final = f"""SELECT {_SUMMARY} FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND changed LIMIT %(most)s"""
#: Locks first, in the order in which everybody does.
_LOCK: Final = """SELECT 1 FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])
  ORDER BY trace_id FOR UPDATE"""
_ENTERED: Final = """UPDATE afterglow_spans.trace t SET changed = false, kind = w.kind, why = w.why
  FROM unnest(%(traces)s::bytea[], %(versions)s::bigint[], %(pinned)s::boolean[],
    %(kinds)s::text[], %(whys)s::text[]) AS w(trace_id, version, pinned, kind, why)
  WHERE t.project_id = %(project_id)s AND t.trace_id = w.trace_id AND t.version = w.version
    AND t.pinned = w.pinned"""
_MARK: Final = """UPDATE afterglow_spans.trace SET changed = true
  WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])"""
_PIN: Final = """UPDATE afterglow_spans.trace SET pinned = %(pinned)s, changed = true
  WHERE project_id = %(project_id)s AND trace_id = %(trace)s AND pinned <> %(pinned)s"""
_ADD_UP: Final = """WITH gone AS (DELETE FROM afterglow_spans.book
    WHERE project_id = %(project_id)s RETURNING *)
  INSERT INTO afterglow_spans.book
  SELECT project_id, process_id, counter, reason, sum(spans), sum(errors), min(start_ns),
    max(end_ns)
  FROM gone GROUP BY project_id, process_id, counter, reason"""
_BOOK_ROWS: Final = """SELECT count(*) > 2 * (SELECT count(*) FROM (
    SELECT 1 FROM afterglow_spans.book WHERE project_id = %(project_id)s
    GROUP BY process_id, counter, reason) g) + 1000
  FROM afterglow_spans.book WHERE project_id = %(project_id)s"""

#: The past of a name counts half when it has so many traces, so that what is usual may change.
_LONG_HISTORY: Final = 20_000
#: So many names are remembered; those seen longest ago go first.
_MOST_NAMES: Final = 10_000


def take_new(connection: Connection, project_id: int, most: int) -> Looked:
    """Take the next that came into what is usual; links from one trace to another."""
    which = {"project_id": project_id, "most": most}
    connection.execute(_TURN, which)
    roots = connection.execute(_NEW_ROOTS, which).fetchall()
    links = connection.execute(_NEW_LINKS, which).fetchall()
    groups: defaultdict[tuple[str, str], list[Sequence[Any]]] = defaultdict(list)
    for service, name, *rest in roots:
        groups[service, name].append(rest)
    if groups:
        _add_to_histories(connection, project_id, groups)
        connection.execute(_FORGET_NAMES, which | {"most": _MOST_NAMES})
    return Looked(len(roots) + len(links), [(a, b) for a, b in links])


def _add_to_histories(
    connection: Connection, project_id: int, groups: dict[tuple[str, str], list[Sequence[Any]]]
) -> None:
    keys = {name_key(*of): of for of in groups}
    before = {
        key: rest
        for key, *rest in connection.execute(
            _HISTORY, {"project_id": project_id, "keys": list(keys)}
        )
    }
    rows = []
    for key, of in sorted(keys.items()):
        traces, errors, seen_ns, encoded = before.get(key, (0, 0, 0, encode_histogram({})))
        counts = decode_histogram(encoded)
        if traces >= _LONG_HISTORY:
            counts, errors = halved(counts), errors // 2
        for more_errors, more_seen_ns, histogram in groups[of]:
            counts.update(decode_histogram(histogram))
            errors, seen_ns = errors + more_errors, max(seen_ns, more_seen_ns)
        rows.append(
            (project_id, key, *of, counts.total(), errors, seen_ns, encode_histogram(counts))
        )
    with connection.cursor() as cursor:
        cursor.executemany(_PUT_HISTORY, rows)


def histories(
    connection: Connection, project_id: int, keys: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], History]:
    """What is usual, by service and name; names that are not known are left out."""
    wanted = {name_key(kept(service), kept(name)): (service, name) for service, name in keys}
    found: dict[tuple[str, str], History] = {}
    rows = connection.execute(_HISTORY, {"project_id": project_id, "keys": list(wanted)})
    for key, traces, _errors, _seen_ns, histogram in rows:
        counts: Counter[int] = decode_histogram(histogram)
        found[wanted[key]] = History(traces, percentile(counts, 0.5), percentile(counts, 0.99))
    return found


def changed_traces(connection: Connection, project_id: int, most: int) -> list[TraceSummary]:
    """Traces whose entry does not know of them yet, or not as they are; `last_span` is the
    version of their row, and nothing goes on: what came has ended."""
    rows = connection.execute(_CHANGED, {"project_id": project_id, "most": most})
    return [TraceSummary(row[0], read(row[1]), read(row[2]), *row[3:]) for row in rows]


def mark_entered(
    connection: Connection, project_id: int, traces: Sequence[tuple[TraceSummary, str, str]]
) -> None:
    """Their entries know of them as they are in these summaries, as of this kind and why; of one
    that has changed since, the entry must be made again."""
    values = {
        "project_id": project_id,
        "traces": [bytes.fromhex(trace.trace_id) for trace, _, _ in traces],
        "versions": [trace.last_span for trace, _, _ in traces],
        "pinned": [trace.pinned for trace, _, _ in traces],
        "kinds": [kind for _, kind, _ in traces],
        "whys": [why for _, _, why in traces],
    }
    connection.execute(_LOCK, values)
    connection.execute(_ENTERED, values)


def mark_changed(connection: Connection, project_id: int, ids: Sequence[str]) -> None:
    """Their entries are to be made again."""
    values = {"project_id": project_id, "traces": [bytes.fromhex(trace) for trace in ids]}
    connection.execute(_LOCK, values)
    connection.execute(_MARK, values)


def set_pinned(connection: Connection, project_id: int, trace_id: str, pinned: bool) -> bool:
    """Pin or unpin a trace, whose entry is made again; whether it was pinned before."""
    values = {"project_id": project_id, "trace": bytes.fromhex(trace_id), "pinned": pinned}
    return pinned != bool(connection.execute(_PIN, values).rowcount)


def add_up_books(connection: Connection, project_id: int) -> None:
    """Make one row of the many that pages left for each process, if there are very many."""
    which = {"project_id": project_id}
    row = connection.execute(_BOOK_ROWS, which).fetchone()
    if row is not None and row[0]:
        connection.execute(_TURN, which)
        connection.execute(_ADD_UP, which)
