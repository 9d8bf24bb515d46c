"""Every statement of the back end, by name. Each names the partition; %(...)s are parameters.

What is found by many ids is looked up one by one in an index: LATERAL with OFFSET 0 says so.
PostgreSQL would rather go through the whole partition where it has no statistics yet, or thinks
it small, and a flush would cost as much as there is rather than as much as has changed. What was
found so is changed by its place (ctid): the partition's lock keeps it there.
"""

from __future__ import annotations

from typing import Final

# --- the partition's row ------------------------------------------------------------------

_PARTITION: Final = """partition_id, version, epoch, entries, payload_bytes, fading, ingested,
  changed_at, tick, ticked_at, advanced_at, tiered_at, last_cycle"""

PARTITION: Final = f"SELECT {_PARTITION} FROM afterglow.partition WHERE name = %(name)s"
LOCK: Final = f"{PARTITION} FOR UPDATE"
BEGIN_PARTITION: Final = """INSERT INTO afterglow.partition (name, ticked_at)
  VALUES (%(name)s, %(now_ns)s) ON CONFLICT (name) DO NOTHING"""
KEEP_PARTITION: Final = """UPDATE afterglow.partition SET
  version = %(version)s, epoch = %(epoch)s, entries = %(entries)s,
  payload_bytes = %(payload_bytes)s, fading = %(fading)s, ingested = %(ingested)s,
  changed_at = %(changed_at)s, tick = %(tick)s, ticked_at = %(ticked_at)s,
  advanced_at = %(advanced_at)s, tiered_at = %(tiered_at)s, last_cycle = %(last_cycle)s
  WHERE partition_id = %(partition_id)s"""
PARTITIONS: Final = "SELECT name FROM afterglow.partition WHERE entries > 0 ORDER BY name"
IDENTITY: Final = "SELECT identity::text FROM afterglow.store"
#: Outcomes are kept for so many versions.
KEPT_OUTCOMES: Final = 10_000
NOTE_OUTCOME: Final = """INSERT INTO afterglow.outcome (partition_id, version, token)
  VALUES (%(partition_id)s, %(version)s, %(token)s)"""
FORGET_OUTCOME: Final = """DELETE FROM afterglow.outcome
  WHERE partition_id = %(partition_id)s AND version = %(version)s"""
#: Locks the row first, so that a commit that is still under way is over.
OUTCOME: Final = """SELECT p.version, (SELECT token FROM afterglow.outcome o
    WHERE o.partition_id = p.partition_id AND o.version = %(version)s)
  FROM afterglow.partition p WHERE p.partition_id = %(partition_id)s"""
LOCK_BY_ID: Final = """SELECT 1 FROM afterglow.partition
  WHERE partition_id = %(partition_id)s FOR UPDATE"""

# --- entries: the order of the columns is rows.py's ----------------------------------------

_COLUMNS: Final = """trace_id, kind, curve, decay_rate, anchor, anchor_tick, prune_tick,
  peak_strength, valence, intensity, confidence, tags, origin, source_id, created_at,
  last_reinforced, reinforcement_count, parent_id, unresolved, consolidation_candidate,
  embedding, payload, payload_is_text"""
_ENTRY: Final = """e.trace_id, e.kind, e.curve, e.decay_rate, e.anchor, e.anchor_tick,
  e.prune_tick, e.peak_strength, e.valence, e.intensity, e.confidence, e.tags, e.origin,
  e.source_id, e.created_at, e.last_reinforced, e.reinforcement_count, e.parent_id,
  e.unresolved, e.consolidation_candidate, e.embedding, e.payload, e.payload_is_text"""

_WANTED: Final = "unnest(%(ids)s::text[]) AS w(trace_id)"
#: The entries of these ids, as e; of those that are not there nothing.
_EACH: Final = f"""{_WANTED} CROSS JOIN LATERAL (SELECT *, ctid FROM afterglow.entry x
    WHERE x.partition_id = %(partition_id)s AND x.trace_id = w.trace_id OFFSET 0) e"""

READ: Final = f"""SELECT p.partition_id, p.version, p.epoch, p.tick, p.ticked_at, p.advanced_at,
  {_ENTRY}
  FROM afterglow.partition p
  LEFT JOIN ({_WANTED} CROSS JOIN LATERAL (SELECT * FROM afterglow.entry x
    WHERE x.partition_id = p.partition_id AND x.trace_id = w.trace_id OFFSET 0) e) ON true
  WHERE p.name = %(name)s"""
READ_LINKED: Final = f"""SELECT p.partition_id, p.version, p.epoch, p.tick, p.ticked_at,
  p.advanced_at, w.trace_id,
  ARRAY(SELECT b FROM afterglow.pair
    WHERE partition_id = p.partition_id AND a = w.trace_id AND linked ORDER BY b),
  ARRAY(SELECT c.trace_id FROM afterglow.entry c
    WHERE c.partition_id = p.partition_id AND c.parent_id = w.trace_id ORDER BY c.trace_id),
  {_ENTRY}
  FROM afterglow.partition p
  CROSS JOIN unnest(%(ids)s::text[]) AS w(trace_id)
  LEFT JOIN LATERAL (SELECT * FROM afterglow.entry x
    WHERE x.partition_id = p.partition_id AND x.trace_id = w.trace_id OFFSET 0) e ON true
  WHERE p.name = %(name)s"""
KNOWN: Final = f"""SELECT e.trace_id FROM afterglow.partition p
  CROSS JOIN {_WANTED}
  CROSS JOIN LATERAL (SELECT x.trace_id FROM afterglow.entry x
    WHERE x.partition_id = p.partition_id AND x.trace_id = w.trace_id OFFSET 0) e
  WHERE p.name = %(name)s"""

_CANDIDATE: Final = """SELECT e.trace_id, e.curve, e.decay_rate, e.anchor, e.anchor_tick,
  e.intensity FROM afterglow.entry e"""
CANDIDATES: Final = {
    "all": f"{_CANDIDATE} WHERE e.partition_id = %(partition_id)s AND e.anchor >= %(at_least)s",
    "kind": f"""{_CANDIDATE} WHERE e.partition_id = %(partition_id)s AND e.kind = %(value)s
      AND e.anchor >= %(at_least)s""",
    "tag": """SELECT e.trace_id, e.curve, e.decay_rate, e.anchor, e.anchor_tick, e.intensity
      FROM afterglow.tag t CROSS JOIN LATERAL (SELECT * FROM afterglow.entry x
        WHERE x.partition_id = t.partition_id AND x.trace_id = t.trace_id OFFSET 0) e
      WHERE t.partition_id = %(partition_id)s AND t.tag = %(value)s
      AND e.anchor >= %(at_least)s""",
}
SELECTED: Final = {
    "all": """SELECT trace_id FROM afterglow.entry WHERE partition_id = %(partition_id)s
      ORDER BY trace_id LIMIT %(portion)s""",
    "kind": """SELECT trace_id FROM afterglow.entry
      WHERE partition_id = %(partition_id)s AND kind = %(value)s LIMIT %(portion)s""",
    "tag": """SELECT trace_id FROM afterglow.tag
      WHERE partition_id = %(partition_id)s AND tag = %(value)s
      ORDER BY trace_id LIMIT %(portion)s""",
}
EXPORT_ENTRIES: Final = f"""SELECT {_COLUMNS} FROM afterglow.entry
  WHERE partition_id = %(partition_id)s ORDER BY trace_id"""
EXPORT_PAIRS: Final = """SELECT a, b, count, linked FROM afterglow.pair
  WHERE partition_id = %(partition_id)s AND a < b ORDER BY a, b"""

# --- writing -------------------------------------------------------------------------------

OLD: Final = f"""SELECT e.trace_id, octet_length(e.payload), e.decay_rate > 0, e.parent_id, e.tags
  FROM {_EACH}"""
PUT: Final = f"""INSERT INTO afterglow.entry (partition_id, {_COLUMNS})
  SELECT %(partition_id)s, * FROM unnest(%(trace_id)s::text[], %(kind)s::text[],
    %(curve)s::text[], %(decay_rate)s::float8[], %(anchor)s::float8[], %(anchor_tick)s::bigint[],
    %(prune_tick)s::bigint[], %(peak_strength)s::float8[], %(valence)s::float8[],
    %(intensity)s::float8[], %(confidence)s::float8[], %(tags)s::text[], %(origin)s::text[],
    %(source_id)s::text[], %(created_at)s::bigint[], %(last_reinforced)s::bigint[],
    %(reinforcement_count)s::bigint[], %(parent_id)s::text[], %(unresolved)s::boolean[],
    %(consolidation_candidate)s::boolean[], %(embedding)s::bytea[], %(payload)s::bytea[],
    %(payload_is_text)s::boolean[])
  ON CONFLICT (partition_id, trace_id) DO UPDATE SET
    kind = excluded.kind, curve = excluded.curve, decay_rate = excluded.decay_rate,
    anchor = excluded.anchor, anchor_tick = excluded.anchor_tick,
    prune_tick = excluded.prune_tick, peak_strength = excluded.peak_strength,
    valence = excluded.valence, intensity = excluded.intensity,
    confidence = excluded.confidence, tags = excluded.tags, origin = excluded.origin,
    source_id = excluded.source_id, created_at = excluded.created_at,
    last_reinforced = excluded.last_reinforced,
    reinforcement_count = excluded.reinforcement_count, parent_id = excluded.parent_id,
    unresolved = excluded.unresolved,
    consolidation_candidate = excluded.consolidation_candidate,
    embedding = excluded.embedding, payload = excluded.payload,
    payload_is_text = excluded.payload_is_text"""
PUT_TAGS: Final = """INSERT INTO afterglow.tag (partition_id, trace_id, tag)
  SELECT %(partition_id)s, * FROM unnest(%(ids)s::text[], %(tags)s::text[])
  ON CONFLICT DO NOTHING"""
TOUCH: Final = """UPDATE afterglow.entry e SET
  anchor = t.anchor, anchor_tick = t.anchor_tick, prune_tick = t.prune_tick,
  last_reinforced = t.last_reinforced, reinforcement_count = t.reinforcement_count,
  peak_strength = greatest(e.peak_strength, t.peak_strength)
  FROM (SELECT w.*, x.ctid FROM unnest(%(trace_id)s::text[], %(anchor)s::float8[],
      %(anchor_tick)s::bigint[], %(prune_tick)s::bigint[], %(last_reinforced)s::bigint[],
      %(reinforcement_count)s::bigint[], %(peak_strength)s::float8[])
      AS w(trace_id, anchor, anchor_tick, prune_tick, last_reinforced, reinforcement_count,
      peak_strength)
    CROSS JOIN LATERAL (SELECT ctid FROM afterglow.entry x
      WHERE x.partition_id = %(partition_id)s AND x.trace_id = w.trace_id OFFSET 0) x) t
  WHERE e.ctid = t.ctid"""

# --- links ---------------------------------------------------------------------------------

PAIRS: Final = """SELECT a, b, count, linked FROM afterglow.pair x
  JOIN afterglow.partition p USING (partition_id)
  WHERE p.name = %(name)s AND x.a = %(a)s ORDER BY x.b"""
BOND: Final = """SELECT w.trace_id, e.trace_id IS NOT NULL,
  ARRAY(SELECT b FROM afterglow.pair
    WHERE partition_id = p.partition_id AND a = w.trace_id AND linked ORDER BY b),
  (SELECT count FROM afterglow.pair
    WHERE partition_id = p.partition_id AND a = %(a)s AND b = %(b)s)
  FROM afterglow.partition p
  CROSS JOIN unnest(%(ids)s::text[]) AS w(trace_id)
  LEFT JOIN LATERAL (SELECT * FROM afterglow.entry x
    WHERE x.partition_id = p.partition_id AND x.trace_id = w.trace_id OFFSET 0) e ON true
  WHERE p.name = %(name)s"""
COUNTS: Final = """SELECT x.a, x.b, x.count, x.linked
  FROM unnest(%(a)s::text[], %(b)s::text[]) AS w(a, b)
  CROSS JOIN LATERAL (SELECT * FROM afterglow.pair x
    WHERE x.partition_id = %(partition_id)s AND x.a = w.a AND x.b = w.b OFFSET 0) x"""
LINK_COUNTS: Final = f"""SELECT e.trace_id, (SELECT count(*) FROM afterglow.pair x
    WHERE x.partition_id = e.partition_id AND x.a = e.trace_id AND x.linked)
  FROM {_EACH}"""
PUT_PAIRS: Final = """INSERT INTO afterglow.pair (partition_id, a, b, count, linked)
  SELECT %(partition_id)s, * FROM unnest(%(a)s::text[], %(b)s::text[], %(count)s::bigint[],
    %(linked)s::boolean[])
  ON CONFLICT (partition_id, a, b) DO UPDATE SET count = excluded.count,
    linked = excluded.linked"""

# --- removing ------------------------------------------------------------------------------

REMOVE: Final = f"""DELETE FROM afterglow.entry WHERE ctid = ANY(ARRAY(SELECT e.ctid FROM {_EACH}))
  RETURNING trace_id, octet_length(payload), decay_rate > 0, parent_id"""
REMOVE_TAGS: Final = f"""DELETE FROM afterglow.tag WHERE ctid = ANY(ARRAY(
  SELECT e.ctid FROM {_WANTED} CROSS JOIN LATERAL (SELECT ctid FROM afterglow.tag x
    WHERE x.partition_id = %(partition_id)s AND x.trace_id = w.trace_id OFFSET 0) e))"""
REMOVE_PAIRS: Final = f"""WITH mine AS (
    DELETE FROM afterglow.pair WHERE ctid = ANY(ARRAY(
      SELECT e.ctid FROM {_WANTED} CROSS JOIN LATERAL (SELECT ctid FROM afterglow.pair x
        WHERE x.partition_id = %(partition_id)s AND x.a = w.trace_id OFFSET 0) e))
    RETURNING a, b, linked),
  theirs AS (
    DELETE FROM afterglow.pair WHERE ctid = ANY(ARRAY(
      SELECT e.ctid FROM mine CROSS JOIN LATERAL (SELECT ctid FROM afterglow.pair x
        WHERE x.partition_id = %(partition_id)s AND x.a = mine.b AND x.b = mine.a OFFSET 0) e
      WHERE NOT mine.b = ANY(%(ids)s::text[])))
    RETURNING a)
  SELECT b, linked, (SELECT count(*) FROM theirs) FROM mine"""
ORPHAN: Final = f"""UPDATE afterglow.entry SET parent_id = NULL WHERE ctid = ANY(ARRAY(
  SELECT e.ctid FROM {_WANTED} CROSS JOIN LATERAL (SELECT ctid FROM afterglow.entry x
    WHERE x.partition_id = %(partition_id)s AND x.parent_id = w.trace_id OFFSET 0) e))
  RETURNING trace_id"""
DUE: Final = """SELECT trace_id FROM afterglow.entry
  WHERE partition_id = %(partition_id)s AND prune_tick <= %(tick)s
  ORDER BY prune_tick LIMIT %(portion)s"""
_EVICT: Final = """SELECT trace_id, octet_length(payload) FROM afterglow.entry
  WHERE partition_id = %(partition_id)s AND kind <> ALL(%(protected)s::text[])"""
EVICT: Final = {
    "lru": f"{_EVICT} ORDER BY last_reinforced, trace_id LIMIT %(portion)s",
    "lowest_confidence": f"""{_EVICT}
      ORDER BY confidence, last_reinforced, trace_id LIMIT %(portion)s""",
    "soonest": f"""{_EVICT}
      ORDER BY prune_tick, last_reinforced, trace_id LIMIT %(portion)s""",
}
TIERS: Final = """SELECT (SELECT count(*) FROM afterglow.entry e
    WHERE e.partition_id = p.partition_id AND e.last_reinforced > w.low
      AND e.last_reinforced <= w.high)
  FROM afterglow.partition p
  CROSS JOIN unnest(%(low)s::bigint[], %(high)s::bigint[]) WITH ORDINALITY AS w(low, high, place)
  WHERE p.name = %(name)s ORDER BY w.place"""
EMPTY: Final = (
    "DELETE FROM afterglow.tag WHERE partition_id = %(partition_id)s",
    "DELETE FROM afterglow.pair WHERE partition_id = %(partition_id)s",
    "DELETE FROM afterglow.entry WHERE partition_id = %(partition_id)s RETURNING trace_id",
)
