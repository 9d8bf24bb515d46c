-- Retention (docs/retention.md): what `afterglow keep` knows of the traces in the file, and what
-- is left of those that it has forgotten.

-- One row a trace that it has looked at.
CREATE TABLE traces (
    trace_id      TEXT    PRIMARY KEY,
    service       TEXT    NOT NULL,             -- service.name of the root's process
    name          TEXT    NOT NULL,             -- of the root; of any span while that is not there
    start_ns      INTEGER NOT NULL,             -- of its first span
    end_ns        INTEGER NOT NULL,             -- the last moment that its spans tell of
    duration_ns   INTEGER,                      -- of the root; NULL while that has not ended
    status        TEXT    NOT NULL DEFAULT 'unset', -- of the root
    root          INTEGER NOT NULL DEFAULT 0,   -- 0 none yet, 1 and 2 a local root that goes on or
                                                -- has ended, 3 and 4 a true root, likewise
    spans         INTEGER NOT NULL,             -- finished ones in the file
    errors        INTEGER NOT NULL,             -- finished ones with status error
    bytes         INTEGER NOT NULL,             -- that its rows take in the file, about
    first_span    INTEGER NOT NULL,             -- its rows in spans lie between these ids, among
    last_span     INTEGER NOT NULL,             -- others
    going_on      INTEGER NOT NULL DEFAULT 0,   -- 1: a living process has not ended it yet
    pinned        INTEGER NOT NULL DEFAULT 0,   -- 1: somebody wants it kept for good
    kind          TEXT    NOT NULL DEFAULT '',  -- pinned, open, error, slow, normal, routine; with
    why           TEXT    NOT NULL DEFAULT '',  -- a reason for people
    changed       INTEGER NOT NULL DEFAULT 1    -- 1: its entry does not know of this row yet
) WITHOUT ROWID;
CREATE INDEX traces_changed ON traces (changed) WHERE changed = 1;
CREATE INDEX traces_going_on ON traces (going_on) WHERE going_on = 1;
CREATE INDEX traces_pinned ON traces (pinned) WHERE pinned = 1;

-- What is usual for traces of one name: their number and how long their roots took.
CREATE TABLE trace_names (
    service       TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    traces        INTEGER NOT NULL,             -- in the histogram: the old ones count less
    errors        INTEGER NOT NULL,             -- of these, roots with status error
    seen_ns       INTEGER NOT NULL,             -- end of the newest
    histogram     BLOB    NOT NULL,             -- see analyse/histogram.py
    PRIMARY KEY (service, name)
) WITHOUT ROWID;

-- The figures of spans that are no longer there: statistics add them to those that are.
CREATE TABLE forgotten (
    process       INTEGER NOT NULL REFERENCES processes (id),
    name          TEXT    NOT NULL,
    spans         INTEGER NOT NULL,             -- finished ones
    errors        INTEGER NOT NULL,
    interrupted   INTEGER NOT NULL,             -- begun, never ended
    total_ns      NOT NULL,                     -- text where it is beyond 64 bits
    self_ns       NOT NULL,
    min_ns        INTEGER NOT NULL,
    max_ns        INTEGER NOT NULL,
    histogram     BLOB    NOT NULL,             -- see analyse/histogram.py
    PRIMARY KEY (process, name)
) WITHOUT ROWID;

-- What the forgotten children of a span that is still there, or is still to come, take of its time:
-- `covered_ns` of what lies before `until_ns`. Only where a trace that goes on was let go in parts.
CREATE TABLE let_go (
    trace_id      TEXT    NOT NULL,
    span_id       TEXT    NOT NULL,             -- of the parent
    until_ns      INTEGER NOT NULL,
    covered_ns    INTEGER NOT NULL,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;

-- Single numbers: `looked_at`, the last row of spans that `traces` knows of (new rows have higher
-- ids, whatever was deleted), how many traces were forgotten, by reason (`forgotten_faded` ...),
-- `forgotten_spans`, and what that was when it was last asked how full pages are (`density_seen_at`).
CREATE TABLE keeping (
    key           TEXT    PRIMARY KEY,
    value         INTEGER NOT NULL
) WITHOUT ROWID;
