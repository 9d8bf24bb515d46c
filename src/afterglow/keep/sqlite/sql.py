"""The statements of the SQLite back end. Whatever varies is a parameter.

Lists of ids go in as one JSON array, so that a statement is the same for any number of them.
"""

from __future__ import annotations

from typing import Final

__all__: list[str] = []

#: In the order of the columns of `entries`, without `id`, and of ENTRY_VALUES in rows.py.
_COLUMNS: Final = (
    "partition",
    "trace_id",
    "kind",
    "curve",
    "decay_rate",
    "anchor",
    "anchor_tick",
    "prune_tick",
    "peak_strength",
    "valence",
    "intensity",
    "confidence",
    "origin",
    "source_id",
    "created_at",
    "last_reinforced",
    "reinforcement_count",
    "parent_id",
    "unresolved",
    "consolidation_candidate",
    "tags",
)

# --- the partition ------------------------------------------------------------------------

PARTITION: Final = "SELECT id FROM partitions WHERE name = ?"
MAKE_PARTITION: Final = "INSERT OR IGNORE INTO partitions (name, ticked_at) VALUES (?, ?)"
MOMENT: Final = "SELECT id, tick, ticked_at, advanced_at FROM partitions WHERE name = ?"
TOTALS: Final = (
    "SELECT entries, payload_bytes, fading, ingested, changed_at, tiered_at, last_cycle,"
    " tick, ticked_at, advanced_at FROM partitions WHERE name = ?"
)
PARTITIONS: Final = "SELECT name FROM partitions WHERE entries > 0 ORDER BY name"
ADD_TO_TOTALS: Final = (
    "UPDATE partitions SET entries = entries + ?, payload_bytes = payload_bytes + ?,"
    " fading = fading + ?, ingested = ingested + ?, changed_at = max(changed_at, ?)"
    " WHERE id = ? RETURNING tick, ticked_at, advanced_at"
)
ADVANCE: Final = (
    "UPDATE partitions SET tick = ?, ticked_at = ?, advanced_at = ?, ingested = ?,"
    " last_cycle = ? WHERE id = ?"
)
NOTE_CYCLE: Final = "UPDATE partitions SET last_cycle = ? WHERE id = ?"
NOTE_TIERS: Final = "UPDATE partitions SET tiered_at = ? WHERE id = ?"
REPLACED: Final = (
    "UPDATE partitions SET tick = ?, ticked_at = ?, advanced_at = ?, changed_at = ? WHERE id = ?"
)

# --- reading ------------------------------------------------------------------------------

_RECORD: Final = (
    "e.trace_id, e.kind, e.curve, e.decay_rate, e.anchor, e.anchor_tick, e.peak_strength,"
    " e.valence, e.intensity, e.confidence, e.tags, e.origin, e.source_id, e.created_at,"
    " e.last_reinforced, e.reinforcement_count, e.parent_id, e.unresolved,"
    " e.consolidation_candidate, y.embedding, y.payload"
)
RECORDS: Final = (
    f"SELECT {_RECORD} FROM json_each(?) AS asked CROSS JOIN entries AS e"
    " ON e.partition = ? AND e.trace_id = asked.value JOIN payloads AS y ON y.id = e.id"
)
KNOWN: Final = (
    "SELECT e.trace_id FROM json_each(?) AS asked CROSS JOIN entries AS e"
    " ON e.partition = ? AND e.trace_id = asked.value"
)
IDS: Final = (
    "SELECT e.trace_id, e.id FROM json_each(?) AS asked CROSS JOIN entries AS e"
    " ON e.partition = ? AND e.trace_id = asked.value"
)
CHILDREN: Final = (
    "SELECT e.parent_id, e.trace_id FROM json_each(?) AS asked CROSS JOIN entries AS e"
    " ON e.partition = ? AND e.parent_id = asked.value ORDER BY e.trace_id"
)
#: Of one entry by its number, given twice.
LINKED: Final = (
    "SELECT e.trace_id FROM (SELECT b AS other FROM entry_pairs WHERE a = ? AND linked"
    " UNION ALL SELECT a FROM entry_pairs WHERE b = ? AND linked) AS l"
    " JOIN entries AS e ON e.id = l.other ORDER BY e.trace_id"
)
PAIRS_OF: Final = (
    "SELECT e.trace_id, l.count, l.linked FROM (SELECT b AS other, count, linked"
    " FROM entry_pairs WHERE a = ? UNION ALL SELECT a, count, linked FROM entry_pairs WHERE b = ?)"
    " AS l JOIN entries AS e ON e.id = l.other ORDER BY e.trace_id"
)
PAIR: Final = "SELECT count, linked FROM entry_pairs WHERE a = ? AND b = ?"
DEGREE: Final = (
    "SELECT (SELECT count(*) FROM entry_pairs WHERE a = ? AND linked)"
    " + (SELECT count(*) FROM entry_pairs WHERE b = ? AND linked)"
)

_CANDIDATE: Final = "e.trace_id, e.curve, e.decay_rate, e.anchor, e.anchor_tick, e.intensity FROM"
#: By Selection.by: parameters are the partition, the value (unless all), the least anchor.
CANDIDATES: Final = {
    "all": f"SELECT {_CANDIDATE} entries AS e WHERE e.partition = ? AND e.anchor >= ?",
    "kind": f"SELECT {_CANDIDATE} entries AS e"
    " WHERE e.partition = ? AND e.kind = ? AND e.anchor >= ?",
    "tag": f"SELECT {_CANDIDATE} entry_tags AS t CROSS JOIN entries AS e ON e.id = t.entry"
    " WHERE t.partition = ? AND t.tag = ? AND e.anchor >= ?",
}
#: The rule of keep/decay.py in SQL, of the tick :tick. Only to choose: Python has the last word.
_STRENGTH: Final = (
    "CASE WHEN e.decay_rate = 0 THEN e.anchor WHEN e.curve = 'power' THEN e.anchor"
    " * pow(max(0, :tick - e.anchor_tick) + 1, -e.decay_rate / (1 + 0.3 * e.intensity))"
    " ELSE e.anchor * exp(-e.decay_rate * max(0, :tick - e.anchor_tick)"
    " / (1 + 0.3 * e.intensity)) END"
)
HAS_MATHEMATICS: Final = "SELECT pow(2.0, 0.5), exp(1.0)"
#: The strongest of them, where SQLite can work it out: the same parameters by name, and :limit.
STRONGEST: Final = {
    "all": f"SELECT {_CANDIDATE} entries AS e WHERE e.partition = :partition"
    f" AND e.anchor >= :least ORDER BY {_STRENGTH} DESC, e.trace_id LIMIT :limit",
    "kind": f"SELECT {_CANDIDATE} entries AS e WHERE e.partition = :partition AND e.kind = :value"
    f" AND e.anchor >= :least ORDER BY {_STRENGTH} DESC, e.trace_id LIMIT :limit",
    "tag": f"SELECT {_CANDIDATE} entry_tags AS t CROSS JOIN entries AS e ON e.id = t.entry"
    " WHERE t.partition = :partition AND t.tag = :value AND e.anchor >= :least"
    f" ORDER BY {_STRENGTH} DESC, e.trace_id LIMIT :limit",
}
EXPORT: Final = (
    f"SELECT {_RECORD} FROM entries AS e JOIN payloads AS y ON y.id = e.id WHERE e.partition = ?"
)
EXPORT_PAIRS: Final = (
    "SELECT a.trace_id, b.trace_id, p.count, p.linked FROM entries AS a"
    " JOIN entry_pairs AS p ON p.a = a.id JOIN entries AS b ON b.id = p.b WHERE a.partition = ?"
)

# --- writing ------------------------------------------------------------------------------

#: What a put must know of what is there.
EXISTING: Final = (
    "SELECT e.id, e.trace_id, y.payload_bytes, e.decay_rate, e.tags, e.kind, e.prune_tick,"
    " e.parent_id FROM json_each(?) AS asked CROSS JOIN entries AS e"
    " ON e.partition = ? AND e.trace_id = asked.value CROSS JOIN payloads AS y ON y.id = e.id"
)
NEXT_ID: Final = "SELECT coalesce(max(id), 0) + 1 FROM entries"
INSERT: Final = f"INSERT INTO entries (id, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})"
UPDATE: Final = (
    f"UPDATE entries SET {', '.join(f'{name} = ?' for name in _COLUMNS[2:])} WHERE id = ?"
)
#: Indexed besides the id: most puts leave them alone; an index that is not named costs nothing.
INDEXED: Final = [_COLUMNS.index(name) for name in ("kind", "prune_tick", "parent_id")]
NOT_INDEXED: Final = [i for i in range(2, len(_COLUMNS)) if i not in INDEXED]
UPDATE_NOT_INDEXED: Final = (
    f"UPDATE entries SET {', '.join(f'{_COLUMNS[i]} = ?' for i in NOT_INDEXED)} WHERE id = ?"
)
INSERT_PAYLOAD: Final = (
    "INSERT INTO payloads (id, payload_bytes, payload, embedding) VALUES (?, ?, ?, ?)"
)
UPDATE_PAYLOAD: Final = (
    "UPDATE payloads SET payload_bytes = ?, payload = ?, embedding = ? WHERE id = ?"
)
INSERT_TAG: Final = "INSERT OR IGNORE INTO entry_tags (partition, tag, entry) VALUES (?, ?, ?)"
DELETE_TAG: Final = "DELETE FROM entry_tags WHERE partition = ? AND tag = ? AND entry = ?"
TOUCH: Final = (
    "UPDATE entries SET anchor = ?, anchor_tick = ?, prune_tick = ?, last_reinforced = ?,"
    " reinforcement_count = ?, peak_strength = max(peak_strength, ?)"
    " WHERE partition = ? AND trace_id = ?"
)
PUT_PAIR: Final = (
    "INSERT INTO entry_pairs (a, b, count, linked) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (a, b) DO UPDATE SET count = excluded.count, linked = excluded.linked"
)

# --- removing -----------------------------------------------------------------------------

DELETE: Final = "DELETE FROM entries WHERE id = ?"
DELETE_PAYLOAD: Final = "DELETE FROM payloads WHERE id = ?"
DELETE_PAIRS_OF_A: Final = "DELETE FROM entry_pairs WHERE a = ?"
DELETE_PAIRS_OF_B: Final = "DELETE FROM entry_pairs WHERE b = ?"
ORPHAN: Final = "UPDATE entries SET parent_id = NULL WHERE partition = ? AND parent_id = ?"

#: What a removal must know, in the order of Doomed in remove.py; the size is looked up for those
#: alone that were chosen.
_DOOMED: Final = (
    "c.id, c.trace_id, y.payload_bytes, c.decay_rate, c.tags"
    " FROM (SELECT e.id, e.trace_id, e.decay_rate, e.tags FROM"
)
_SIZED: Final = ") AS c CROSS JOIN payloads AS y ON y.id = c.id"
DOOMED_BY_ID: Final = (
    f"SELECT {_DOOMED} json_each(?) AS asked CROSS JOIN entries AS e"
    f" ON e.partition = ? AND e.trace_id = asked.value{_SIZED}"
)
DUE: Final = (
    f"SELECT {_DOOMED} entries AS e WHERE e.partition = ? AND e.prune_tick <= ?"
    f" ORDER BY e.prune_tick LIMIT ?{_SIZED}"
)
IS_DUE: Final = "SELECT 1 FROM entries WHERE partition = ? AND prune_tick <= ? LIMIT 1"
#: By Selection.by: parameters are the partition, the value (unless all), how many.
DOOMED: Final = {
    "all": f"SELECT {_DOOMED} entries AS e INDEXED BY entries_by_trace"
    f" WHERE e.partition = ? LIMIT ?{_SIZED}",
    "kind": f"SELECT {_DOOMED} entries AS e WHERE e.partition = ? AND e.kind = ? LIMIT ?{_SIZED}",
    "tag": f"SELECT {_DOOMED} entry_tags AS t CROSS JOIN entries AS e ON e.id = t.entry"
    f" WHERE t.partition = ? AND t.tag = ? LIMIT ?{_SIZED}",
}
_EVICT: Final = (
    f"SELECT {_DOOMED} entries AS e WHERE e.partition = ? AND e.kind NOT IN"
    " (SELECT value FROM json_each(?)) ORDER BY"
)
#: By policy.
EVICT: Final = {
    "lru": f"{_EVICT} e.last_reinforced, e.trace_id LIMIT ?{_SIZED}",
    "lowest_confidence": f"{_EVICT} e.confidence, e.last_reinforced, e.trace_id LIMIT ?{_SIZED}",
    "soonest": f"{_EVICT} e.prune_tick IS NULL, e.prune_tick, e.last_reinforced, e.trace_id"
    f" LIMIT ?{_SIZED}",
}
TIER: Final = (
    "SELECT count(*) FROM entries WHERE partition = ? AND last_reinforced > ?"
    " AND last_reinforced <= ?"
)
