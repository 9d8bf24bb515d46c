"""Every statement that writes pages. What is found by many ids is looked up one by one in an
index: LATERAL with OFFSET 0 says so, whatever the statistics of the tables are."""

from __future__ import annotations

from typing import Final

from afterglow.store.postgres.lines import COPY_COLUMNS

PROJECT: Final = "SELECT project_id FROM afterglow_spans.project WHERE name = %s"
PUT_PROJECT: Final = """INSERT INTO afterglow_spans.project (name) VALUES (%s)
  ON CONFLICT (name) DO NOTHING"""
PROCESS: Final = """SELECT process_id FROM afterglow_spans.process
  WHERE project_id = %(project_id)s AND run_id = %(run_id)s"""
PUT_PROCESS: Final = """INSERT INTO afterglow_spans.process
  (project_id, run_id, pid, service, host, start_ns, resource)
  VALUES (%(project_id)s, %(run_id)s, %(pid)s, %(service)s, %(host)s, %(start_ns)s, %(resource)s)
  ON CONFLICT (project_id, run_id) DO NOTHING"""

#: Locks the rows in the order in which they are given; `version` is 1 for those that were not
#: there. Of two roots alike the one that began first counts.
PUT_TRACES: Final = """INSERT INTO afterglow_spans.trace AS t (project_id, trace_id, version,
    service, name, start_ns, end_ns, duration_ns, status, root, root_start_ns, root_span_id,
    spans, errors, bytes, assembled_ns)
  SELECT project_id, trace_id, 1, service, name, start_ns, end_ns, duration_ns, status, root,
    root_start_ns, root_span_id, spans, errors, bytes, %(now_ns)s
  FROM unnest(%(project_id)s::int[], %(trace_id)s::bytea[], %(service)s::text[], %(name)s::text[],
    %(start_ns)s::bigint[], %(end_ns)s::bigint[], %(duration_ns)s::bigint[], %(status)s::text[],
    %(root)s::smallint[], %(root_start_ns)s::bigint[], %(root_span_id)s::bytea[],
    %(spans)s::bigint[], %(errors)s::bigint[], %(bytes)s::bigint[])
    AS w(project_id, trace_id, service, name, start_ns, end_ns, duration_ns, status, root,
    root_start_ns, root_span_id, spans, errors, bytes)
  ORDER BY project_id, trace_id
  ON CONFLICT (project_id, trace_id) DO UPDATE SET
    version = t.version + 1, changed = true,
    start_ns = least(t.start_ns, excluded.start_ns),
    end_ns = greatest(t.end_ns, excluded.end_ns),
    spans = t.spans + excluded.spans, errors = t.errors + excluded.errors,
    bytes = t.bytes + excluded.bytes,
    assembled_ns = greatest(t.assembled_ns, excluded.assembled_ns),
    (service, name, duration_ns, status, root, root_start_ns, root_span_id) = (
      SELECT r.service, r.name, r.duration_ns, r.status, r.root, r.root_start_ns, r.root_span_id
      FROM (VALUES
        (t.service, t.name, t.duration_ns, t.status, t.root, t.root_start_ns, t.root_span_id),
        (excluded.service, excluded.name, excluded.duration_ns, excluded.status, excluded.root,
          excluded.root_start_ns, excluded.root_span_id))
        AS r(service, name, duration_ns, status, root, root_start_ns, root_span_id)
      ORDER BY r.root DESC, r.root_start_ns, r.root_span_id LIMIT 1)
  RETURNING t.project_id, encode(t.trace_id, 'hex'), t.version"""

#: Of traces that were there: the rows with these ids, and those with one of these as parent.
RELATED: Final = """SELECT s.project_id, encode(s.trace_id, 'hex'), encode(s.span_id, 'hex'),
    encode(s.parent_span_id, 'hex'), s.start_ns, s.end_ns, s.process_id, s.self_ns, s.place
  FROM unnest(%(project_id)s::int[], %(trace_id)s::bytea[]) AS w(project_id, trace_id)
  CROSS JOIN LATERAL (SELECT * FROM afterglow_spans.span x
    WHERE x.project_id = w.project_id AND x.trace_id = w.trace_id
      AND (x.span_id = ANY(%(ids)s::bytea[]) OR x.parent_span_id = ANY(%(ids)s::bytea[]))
    OFFSET 0) s"""
COPY_SPANS: Final = f"COPY afterglow_spans.span ({COPY_COLUMNS}) FROM STDIN"
CORRECT_SPANS: Final = """UPDATE afterglow_spans.span s SET self_ns = w.self_ns, place = w.place
  FROM unnest(%(project_id)s::int[], %(trace_id)s::bytea[], %(span_id)s::bytea[],
    %(self_ns)s::bigint[], %(place)s::smallint[])
    AS w(project_id, trace_id, span_id, self_ns, place)
  WHERE s.project_id = w.project_id AND s.trace_id = w.trace_id AND s.span_id = w.span_id"""
#: What was counted for spans that were there already is taken back.
CORRECT_TRACES: Final = """UPDATE afterglow_spans.trace t SET spans = t.spans - w.spans,
    errors = t.errors - w.errors, bytes = t.bytes - w.bytes
  FROM unnest(%(project_id)s::int[], %(trace_id)s::bytea[], %(spans)s::bigint[],
    %(errors)s::bigint[], %(bytes)s::bigint[]) AS w(project_id, trace_id, spans, errors, bytes)
  WHERE t.project_id = w.project_id AND t.trace_id = w.trace_id"""
PUT_SEGMENTS: Final = """INSERT INTO afterglow_spans.segment (project_id, trace_id, message_id,
    root_span_id, part, is_last, addendum, spans, unreadable, assembled_ns)
  SELECT w.*, %(now_ns)s FROM unnest(%(project_id)s::int[], %(trace_id)s::bytea[],
    %(message_id)s::uuid[], %(root_span_id)s::bytea[], %(part)s::int[], %(is_last)s::boolean[],
    %(addendum)s::boolean[], %(spans)s::int[], %(unreadable)s::int[]) AS w
  ON CONFLICT DO NOTHING"""
PUT_BOOKS: Final = """INSERT INTO afterglow_spans.book
  VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
PUT_ROOTS: Final = """INSERT INTO afterglow_spans.new_roots
  (project_id, service, name, errors, seen_ns, histogram) VALUES (%s, %s, %s, %s, %s, %s)"""
PUT_LINKS: Final = """INSERT INTO afterglow_spans.new_link (project_id, trace_id, to_trace_id)
  VALUES (%s, %s, %s)"""
