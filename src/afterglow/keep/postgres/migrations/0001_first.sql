-- Traces that fade, shared by many processes. Nothing here is a copy of the time: strength is
-- worked out from anchor, curve, rate, intensity and ticks.

-- One row for ever: which database this is, so that a cache never serves another one's rows.
CREATE TABLE afterglow.store (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    identity uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO afterglow.store DEFAULT VALUES;

-- One row a partition: its tick, its totals, and the lock by which its writers take turns.
-- `version` counts its writing transactions; `epoch` those after which no cache of it holds.
CREATE TABLE afterglow.partition (
    partition_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    version bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    entries bigint NOT NULL DEFAULT 0,
    payload_bytes bigint NOT NULL DEFAULT 0,
    fading bigint NOT NULL DEFAULT 0,
    ingested bigint NOT NULL DEFAULT 0,
    changed_at bigint NOT NULL DEFAULT 0,
    tick bigint NOT NULL DEFAULT 0,
    ticked_at bigint NOT NULL DEFAULT 0,
    advanced_at bigint NOT NULL DEFAULT 0,
    tiered_at bigint NOT NULL DEFAULT 0,
    last_cycle text
) WITH (fillfactor = 50);

-- Which transaction made a version: whoever loses the line during a commit finds out here. The
-- server's own numbers will not do: after a crash, it may give one that nobody saw twice.
CREATE TABLE afterglow.outcome (
    partition_id integer NOT NULL,
    version bigint NOT NULL,
    token bigint NOT NULL,
    PRIMARY KEY (partition_id, version)
);

-- Texts that PostgreSQL would refuse (NUL, lone surrogates) are escaped: see text.py. A payload
-- is bytes for the same reason: the UTF-8 of its JSON, or as it was given. `tags` is a JSON array.
CREATE TABLE afterglow.entry (
    partition_id integer NOT NULL REFERENCES afterglow.partition,
    trace_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    curve text COLLATE "C" NOT NULL,
    decay_rate double precision NOT NULL,
    anchor double precision NOT NULL,
    anchor_tick bigint NOT NULL,
    prune_tick bigint,
    peak_strength double precision NOT NULL,
    valence double precision NOT NULL,
    intensity double precision NOT NULL,
    confidence double precision NOT NULL,
    tags text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    source_id text COLLATE "C",
    created_at bigint NOT NULL,
    last_reinforced bigint NOT NULL,
    reinforcement_count bigint NOT NULL,
    parent_id text COLLATE "C",
    unresolved boolean NOT NULL,
    consolidation_candidate boolean NOT NULL,
    embedding bytea,
    payload bytea NOT NULL,
    payload_is_text boolean NOT NULL,
    PRIMARY KEY (partition_id, trace_id)
) WITH (fillfactor = 90);

CREATE INDEX entry_by_kind ON afterglow.entry (partition_id, kind);
-- What is due, and (with those that never are at the end) what goes soonest.
CREATE INDEX entry_by_prune_tick ON afterglow.entry (partition_id, prune_tick);
CREATE INDEX entry_by_use ON afterglow.entry (partition_id, last_reinforced);
CREATE INDEX entry_by_confidence ON afterglow.entry (partition_id, confidence);
CREATE INDEX entry_by_parent ON afterglow.entry (partition_id, parent_id)
    WHERE parent_id IS NOT NULL;

CREATE TABLE afterglow.tag (
    partition_id integer NOT NULL,
    tag text COLLATE "C" NOT NULL,
    trace_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition_id, tag, trace_id)
);
CREATE INDEX tag_by_entry ON afterglow.tag (partition_id, trace_id);

-- Co-activations, each in both directions, so that an entry's are one range.
CREATE TABLE afterglow.pair (
    partition_id integer NOT NULL,
    a text COLLATE "C" NOT NULL,
    b text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    linked boolean NOT NULL,
    PRIMARY KEY (partition_id, a, b)
) WITH (fillfactor = 90);
