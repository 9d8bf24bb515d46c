"""Forgetting traces: their spans go, and what they came to is added to `forgotten`.

Everything is done in the caller's transaction, which removes the entries as well, under the lock of
the partition: so the keepers of a project take turns. Writers of spans take the rows of their
traces in the order of their key, as this does: nobody waits in a circle.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from afterglow.analyse.histogram import decode_histogram, encode_histogram
from afterglow.ledger import ForgetReason
from afterglow.store.forget import Forgotten
from afterglow.store.postgres.connections import Connection
from afterglow.store.postgres.queries import BUCKET

__all__ = ["forget_traces", "name_key"]

_LOCK: Final = """SELECT trace_id FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])
  ORDER BY trace_id FOR UPDATE"""
_DELETE: Final = f"""WITH gone AS (DELETE FROM afterglow_spans.span
    WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])
    RETURNING process_id, name, end_ns - start_ns AS duration_ns, self_ns, status, start_ns, end_ns)
  SELECT process_id, name, {BUCKET.format("duration_ns")} AS bucket, count(*), sum(duration_ns),
    sum(self_ns), min(duration_ns), max(duration_ns), count(*) FILTER (WHERE status = 'error')
  FROM gone GROUP BY process_id, name, bucket"""
_DELETE_REST: Final = (
    """DELETE FROM afterglow_spans.segment
  WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])""",
    """DELETE FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND trace_id = ANY(%(traces)s::bytea[])""",
)
_FIGURE: Final = """SELECT spans, errors, total_ns, self_ns, min_ns, max_ns, histogram
  FROM afterglow_spans.forgotten
  WHERE project_id = %(project_id)s AND process_id = %(process_id)s AND key = %(key)s"""
_PUT_FIGURE: Final = """INSERT INTO afterglow_spans.forgotten VALUES (%(project_id)s,
    %(process_id)s, %(key)s, %(name)s, %(spans)s, %(errors)s, %(total_ns)s, %(self_ns)s,
    %(min_ns)s, %(max_ns)s, %(histogram)s)
  ON CONFLICT (project_id, process_id, key) DO UPDATE SET spans = excluded.spans,
    errors = excluded.errors, total_ns = excluded.total_ns, self_ns = excluded.self_ns,
    min_ns = excluded.min_ns, max_ns = excluded.max_ns, histogram = excluded.histogram"""
_PUT_BOOK: Final = """INSERT INTO afterglow_spans.book
  VALUES (%s, %s, 'forgotten', %s, %s, %s, 0, 0)"""
_COUNT: Final = """INSERT INTO afterglow_spans.forgotten_traces AS f VALUES (%s, %s, %s)
  ON CONFLICT (project_id, reason) DO UPDATE SET traces = f.traces + excluded.traces"""


def name_key(*texts: str) -> bytes:
    """What names are found by: an index takes no long texts."""
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def forget_traces(
    connection: Connection, project_id: int, trace_ids: Sequence[str], why: ForgetReason
) -> Forgotten:
    """Delete traces (32 hexadecimal digits) with all that hangs on them; those that are unknown
    are passed over."""
    wanted = {"project_id": project_id, "traces": [bytes.fromhex(t) for t in trace_ids]}
    going = [trace for (trace,) in connection.execute(_LOCK, wanted)]
    if not going:
        return Forgotten()
    which = {"project_id": project_id, "traces": going}
    figures: defaultdict[tuple[int, str], list[Sequence[Any]]] = defaultdict(list)
    for process, name, *figure in connection.execute(_DELETE, which).fetchall():
        figures[process, name].append(figure)
    for statement in _DELETE_REST:
        connection.execute(statement, which)
    spans: Counter[int] = Counter()
    errors: Counter[int] = Counter()
    for (process, name), rows in sorted(figures.items()):
        spans[process] += sum(row[1] for row in rows)
        errors[process] += sum(row[6] for row in rows)
        _add_figure(connection, project_id, process, name, rows)
    with connection.cursor() as cursor:
        cursor.executemany(
            _PUT_BOOK, [(project_id, p, why, n, errors[p]) for p, n in spans.items()]
        )
    connection.execute(_COUNT, (project_id, why, len(going)))
    return Forgotten(len(going), spans.total())


def _add_figure(
    connection: Connection, project_id: int, process: int, name: str, rows: list[Sequence[Any]]
) -> None:
    """Add rows of bucket, count, total, self, least, most and errors to what was forgotten."""
    key = {"project_id": project_id, "process_id": process, "key": name_key(name)}
    counts: Counter[int] = Counter()
    for bucket, count, *_ in rows:
        counts[bucket] += count
    total, self_ns = (int(sum(row[i] for row in rows)) for i in (2, 3))
    low, high = min(row[4] for row in rows), max(row[5] for row in rows)
    errors = sum(row[6] for row in rows)
    before = connection.execute(_FIGURE, key).fetchone()
    if before is not None:
        counts.update(decode_histogram(before[6]))
        errors += before[1]
        total, self_ns = total + int(before[2]), self_ns + int(before[3])
        low, high = min(low, before[4]), max(high, before[5])
    connection.execute(
        _PUT_FIGURE,
        {
            **key, "name": name, "spans": counts.total(), "errors": errors, "total_ns": total,
            "self_ns": self_ns, "min_ns": low, "max_ns": high,
            "histogram": encode_histogram(counts),
        },
    )  # fmt: skip
