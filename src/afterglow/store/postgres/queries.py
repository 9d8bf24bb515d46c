"""Every statement that reads a project. Parameters that are NULL leave their condition away."""

from __future__ import annotations

from typing import Final

PROJECTS: Final = "SELECT name, project_id FROM afterglow_spans.project"
PROCESS_NAMES: Final = """SELECT process_id, run_id, pid FROM afterglow_spans.process
  WHERE project_id = %(project_id)s"""

#: Processes that stored anything, with their sums, the earliest first.
RECEIVED: Final = """SELECT p.process_id, p.run_id, p.pid, p.service, p.host, b.start_ns,
    p.resource, b.spans, b.errors, b.end_ns
  FROM afterglow_spans.process p CROSS JOIN LATERAL (
    SELECT sum(spans) AS spans, sum(errors) AS errors, min(start_ns) AS start_ns,
      max(end_ns) AS end_ns
    FROM afterglow_spans.book x WHERE x.project_id = p.project_id
      AND x.process_id = p.process_id AND x.counter = 'stored' OFFSET 0) b
  WHERE p.project_id = %(project_id)s AND b.spans > 0 ORDER BY b.start_ns, p.process_id"""
FOUND: Final = """SELECT process_id, count(*) FROM afterglow_spans.span
  WHERE project_id = %(project_id)s GROUP BY process_id"""
FORGOTTEN_BOOKS: Final = """SELECT process_id, reason, sum(spans) FROM afterglow_spans.book
  WHERE project_id = %(project_id)s AND counter = 'forgotten' GROUP BY process_id, reason"""
TOTALS: Final = """SELECT counter, sum(spans) FROM afterglow_spans.book
  WHERE project_id = %(project_id)s GROUP BY counter"""

#: The bucket of analyse/statistics.py: the upper half of a duration as a 32-bit float.
BUCKET: Final = (
    "(get_byte(float4send({0}::float8::float4), 0) << 8"
    " | get_byte(float4send({0}::float8::float4), 1))"
)
FIGURES: Final = f"""SELECT s.name, {BUCKET.format("(s.end_ns - s.start_ns)")} AS bucket, count(*),
    sum(s.end_ns - s.start_ns), sum(s.self_ns), min(s.end_ns - s.start_ns),
    max(s.end_ns - s.start_ns), count(*) FILTER (WHERE s.status = 'error')
  FROM afterglow_spans.span s WHERE s.project_id = %(project_id)s
    AND (%(processes)s::bigint[] IS NULL OR s.process_id = ANY(%(processes)s::bigint[]))
    AND (%(name)s::text IS NULL OR s.name = %(name)s::text)
  GROUP BY s.name, bucket"""
FORGOTTEN_FIGURES: Final = """SELECT s.name, s.total_ns, s.self_ns, s.min_ns, s.max_ns, s.errors,
    s.histogram
  FROM afterglow_spans.forgotten s WHERE s.project_id = %(project_id)s
    AND (%(processes)s::bigint[] IS NULL OR s.process_id = ANY(%(processes)s::bigint[]))
    AND (%(name)s::text IS NULL OR s.name = %(name)s::text)"""

_SLOWEST: Final = "ORDER BY end_ns - start_ns DESC, trace_id, span_id LIMIT %(limit)s::bigint"
#: Spans without a parent in the store; and those without one in their process.
ROOTS: Final = f"""SELECT trace_id, span_id FROM afterglow_spans.span
  WHERE project_id = %(project_id)s AND place > 0 AND place = 2 {_SLOWEST}"""
TOPS: Final = f"""SELECT trace_id, span_id FROM afterglow_spans.span
  WHERE project_id = %(project_id)s AND place > 0 AND process_id = ANY(%(processes)s::bigint[])
  {_SLOWEST}"""

ORDER: Final = "s.trace_id, s.start_ns, s.span_id"
SPANS: Final = """SELECT {columns} FROM afterglow_spans.span s
  WHERE s.project_id = %(project_id)s
    AND (%(processes)s::bigint[] IS NULL OR s.process_id = ANY(%(processes)s::bigint[]))
    AND (%(name)s::text IS NULL OR s.name = %(name)s::text)
    AND (%(trace)s::bytea IS NULL OR s.trace_id = %(trace)s::bytea)
    AND (%(status)s::text IS NULL OR s.status = %(status)s::text)
    AND (%(least)s::bigint IS NULL OR s.end_ns - s.start_ns >= %(least)s::bigint)"""
