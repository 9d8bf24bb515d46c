-- The trace store: entries whose strength fades unless they are used (docs/trace-store.md).
-- Strength is not stored: it follows from the anchor, the rate, the intensity and the ticks since.
-- Entries have numbers of their own, for random texts in many indexes cost a page each to change;
-- a number belongs to one entry of one partition, so what is keyed by it is kept apart as well.

CREATE TABLE partitions (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    tick          INTEGER NOT NULL DEFAULT 0,   -- decay stands here
    ticked_at     INTEGER NOT NULL,             -- ticks of wall time are counted from this time
    advanced_at   INTEGER NOT NULL DEFAULT 0,   -- when the tick last moved
    ingested      INTEGER NOT NULL DEFAULT 0,   -- entries stored that no tick has counted yet
    entries       INTEGER NOT NULL DEFAULT 0,
    payload_bytes INTEGER NOT NULL DEFAULT 0,
    fading        INTEGER NOT NULL DEFAULT 0,   -- entries with a rate above 0
    changed_at    INTEGER NOT NULL DEFAULT 0,
    tiered_at     INTEGER NOT NULL DEFAULT 0,   -- when tiers were last counted
    last_cycle    TEXT                          -- JSON object: what the last decay cycle did
);

CREATE TABLE entries (
    id            INTEGER PRIMARY KEY,
    partition     INTEGER NOT NULL REFERENCES partitions (id),
    trace_id      TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    curve         TEXT    NOT NULL,             -- power or exponential
    decay_rate    REAL    NOT NULL,             -- per tick
    anchor        REAL    NOT NULL,             -- strength at the anchor's tick
    anchor_tick   INTEGER NOT NULL,             -- the tick of the last reinforcement
    prune_tick    INTEGER,                      -- when it is due to go; NULL: beyond reach
    peak_strength REAL    NOT NULL,
    valence       REAL    NOT NULL,
    intensity     REAL    NOT NULL,
    confidence    REAL    NOT NULL,
    origin        TEXT    NOT NULL,
    source_id     TEXT,
    created_at    INTEGER NOT NULL,
    last_reinforced INTEGER NOT NULL,
    reinforcement_count INTEGER NOT NULL,
    parent_id     TEXT,                         -- trace_id of another entry
    unresolved    INTEGER NOT NULL,             -- 0 or 1
    consolidation_candidate INTEGER NOT NULL,   -- 0 or 1
    tags          TEXT    NOT NULL              -- JSON array
);

CREATE UNIQUE INDEX entries_by_trace ON entries (partition, trace_id);
CREATE INDEX entries_by_kind ON entries (partition, kind);
-- What is due to be pruned is a range; what never is costs nothing here.
CREATE INDEX entries_by_prune_tick ON entries (partition, prune_tick)
    WHERE prune_tick IS NOT NULL;
CREATE INDEX entries_by_parent ON entries (partition, parent_id) WHERE parent_id IS NOT NULL;

-- Apart from their entries, so that a look at all strengths does not read all payloads. The size
-- is here, so that new content with the old tags changes no row of entries.
CREATE TABLE payloads (
    id            INTEGER PRIMARY KEY REFERENCES entries (id),
    payload_bytes INTEGER NOT NULL,
    payload       NOT NULL,                     -- TEXT: JSON; BLOB: bytes as they were given
    embedding     BLOB                          -- doubles, little-endian
);

CREATE TABLE entry_tags (
    partition     INTEGER NOT NULL REFERENCES partitions (id),
    tag           TEXT    NOT NULL,
    entry         INTEGER NOT NULL REFERENCES entries (id),
    PRIMARY KEY (partition, tag, entry)
) WITHOUT ROWID;

-- How often two entries were active together. One row a pair; trace_id of a < trace_id of b.
CREATE TABLE entry_pairs (
    a             INTEGER NOT NULL REFERENCES entries (id),
    b             INTEGER NOT NULL REFERENCES entries (id),
    count         INTEGER NOT NULL,
    linked        INTEGER NOT NULL,             -- 0 or 1
    PRIMARY KEY (a, b)
) WITHOUT ROWID;
CREATE INDEX entry_pairs_by_b ON entry_pairs (b);
