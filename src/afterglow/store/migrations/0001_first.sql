-- The file that a person names. Times are nanoseconds: since 1970 (UTC) where a column says
-- start, end or time, else a length. Ids are hexadecimal text, as W3C Trace Context has them.
-- docs/tables.md explains every table to people who write SQL.

CREATE TABLE processes (
    id            INTEGER PRIMARY KEY,
    run_id        TEXT    NOT NULL,
    pid           INTEGER NOT NULL,
    parent_pid    INTEGER NOT NULL,
    argv          TEXT    NOT NULL,             -- JSON array
    host          TEXT    NOT NULL,
    start_ns      INTEGER NOT NULL,
    end_ns        INTEGER,
    exit_status   INTEGER,
    resource      TEXT    NOT NULL DEFAULT '{}', -- JSON object: OpenTelemetry resource attributes
    state         TEXT    NOT NULL,             -- running, finished, interrupted
    journal       TEXT    NOT NULL DEFAULT '',  -- how its journals' names begin
    seen_ns       INTEGER NOT NULL DEFAULT 0,   -- the last moment that any of its spans tells of
    spans         INTEGER NOT NULL DEFAULT 0,   -- finished ones
    errors        INTEGER NOT NULL DEFAULT 0,   -- finished ones with status error
    open_spans    INTEGER NOT NULL DEFAULT 0,   -- begun and not ended
    first_span    INTEGER,                      -- its rows in spans lie between these ids, among
    last_span     INTEGER,                      -- others: what keeps a look at one run short
    UNIQUE (run_id, pid, start_ns)              -- one writer; a process may have several in turn
);

-- One row a run: what its processes came to. Kept up with them by whoever folds.
CREATE TABLE runs (
    run_id        TEXT    PRIMARY KEY,
    argv          TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    start_ns      INTEGER NOT NULL,
    end_ns        INTEGER,
    exit_status   INTEGER,
    state         TEXT    NOT NULL,
    processes     INTEGER NOT NULL,
    spans         INTEGER NOT NULL,
    errors        INTEGER NOT NULL,
    interrupted_spans INTEGER NOT NULL,
    dropped       INTEGER NOT NULL,
    resource      TEXT    NOT NULL
) WITHOUT ROWID;

CREATE TABLE spans (
    id            INTEGER PRIMARY KEY,
    process       INTEGER NOT NULL REFERENCES processes (id),
    trace_id      TEXT    NOT NULL,             -- 32 digits
    span_id       TEXT    NOT NULL,             -- 16 digits
    parent_span_id TEXT,                        -- NULL for the root of a trace
    name          TEXT    NOT NULL,
    start_ns      INTEGER NOT NULL,
    end_ns        INTEGER,                      -- NULL: goes on, or was interrupted
    duration_ns   INTEGER,
    self_ns       INTEGER,                      -- duration less the union of the children's times
    status        TEXT    NOT NULL DEFAULT 'unset', -- unset, ok, error
    status_description TEXT NOT NULL DEFAULT '',
    status_text   TEXT    NOT NULL DEFAULT '',  -- as the program wrote it, if none of these three
    kind          TEXT    NOT NULL DEFAULT 'internal',
    attributes    TEXT    NOT NULL DEFAULT '{}', -- JSON object; see store/attributes.py
    thread_id     INTEGER NOT NULL DEFAULT 0,
    thread_name   TEXT    NOT NULL DEFAULT '',
    task_name     TEXT    NOT NULL DEFAULT '',
    event_count   INTEGER NOT NULL DEFAULT 0,   -- rows in events
    link_count    INTEGER NOT NULL DEFAULT 0,   -- rows in links
    trace_state   TEXT    NOT NULL DEFAULT '',
    trace_flags   INTEGER NOT NULL DEFAULT 1,
    scope         TEXT    NOT NULL DEFAULT '',
    scope_version TEXT    NOT NULL DEFAULT '',
    dropped_attributes INTEGER NOT NULL DEFAULT 0,
    dropped_events INTEGER NOT NULL DEFAULT 0,
    dropped_links INTEGER NOT NULL DEFAULT 0,
    remote_parent INTEGER NOT NULL DEFAULT 0    -- 1: the parent is in another process
);

-- Is a parent there already (folding), and a span by its id (people). Ids of one process count
-- upwards, so new entries go near the end of both indexes, whatever their size.
CREATE INDEX spans_by_id ON spans (span_id);
-- The children of a span: trees, and the self time of spans whose children came in another fold.
CREATE INDEX spans_by_parent ON spans (parent_span_id) WHERE parent_span_id IS NOT NULL;
-- A trace by its id begins at the spans without a parent in their process; an index of all spans
-- by trace would be written all over, for trace ids are random.
CREATE INDEX local_roots ON spans (trace_id) WHERE parent_span_id IS NULL OR remote_parent = 1;
-- Open spans are replaced by every fold. Few: ended ones are not in it.
CREATE INDEX open_spans ON spans (process) WHERE end_ns IS NULL;

CREATE TABLE events (
    id            INTEGER PRIMARY KEY,
    span          INTEGER NOT NULL REFERENCES spans (id),
    time_ns       INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    attributes    TEXT    NOT NULL DEFAULT '{}',
    dropped_attributes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX events_by_span ON events (span);

CREATE TABLE links (
    id            INTEGER PRIMARY KEY,
    span          INTEGER NOT NULL REFERENCES spans (id),
    to_trace_id   TEXT    NOT NULL,
    to_span_id    TEXT    NOT NULL,
    trace_state   TEXT    NOT NULL DEFAULT '',
    attributes    TEXT    NOT NULL DEFAULT '{}',
    dropped_attributes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX links_by_span ON links (span);

-- The books of each process as its newest batch states them (recorded = written + dropped +
-- in_flight), and what the fold adds: `rescued`, spans of journals that went by the writer's
-- bound (dropped, journal_limit) after they had been folded, and `damaged`, batches not readable.
CREATE TABLE ledger (
    process       INTEGER NOT NULL REFERENCES processes (id),
    counter       TEXT    NOT NULL,             -- recorded, written, in_flight, dropped, ...
    reason        TEXT    NOT NULL DEFAULT '',
    spans         INTEGER NOT NULL,
    PRIMARY KEY (process, counter, reason)
) WITHOUT ROWID;

-- Calls of functions that are counted instead of recorded.
CREATE TABLE counts (
    process       INTEGER NOT NULL REFERENCES processes (id),
    name          TEXT    NOT NULL,
    calls         INTEGER NOT NULL,
    PRIMARY KEY (process, name)
) WITHOUT ROWID;

-- How far each journal was folded. The row goes when the journal does.
CREATE TABLE folded (
    journal       TEXT    PRIMARY KEY,          -- name of the file
    fingerprint   TEXT    NOT NULL,             -- of its first batch: a name may come again
    process       INTEGER REFERENCES processes (id),
    seq           INTEGER NOT NULL,             -- the last batch that is in this file
    spans         INTEGER NOT NULL,
    damaged       INTEGER NOT NULL DEFAULT 0,   -- batches that could not be read
    ended         INTEGER NOT NULL DEFAULT 0,   -- 1: its newest batch says goodbye
    removing      INTEGER NOT NULL DEFAULT 0    -- 1: all is folded, whoever folds is removing it
) WITHOUT ROWID;

-- Spans that are not in the file, finished, though others name them as their parent: they are
-- still open, or come with a later fold, or never will.
CREATE TABLE awaited (
    trace_id      TEXT    NOT NULL,
    span_id       TEXT    NOT NULL,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;

-- For people: spans with their run, in milliseconds and readable time.
CREATE VIEW readable AS
SELECT p.run_id, p.pid, s.name, s.status,
       s.duration_ns / 1e6 AS duration_ms,
       s.self_ns / 1e6 AS self_ms,
       strftime('%Y-%m-%d %H:%M:%f', s.start_ns / 1e9, 'unixepoch') AS started,
       s.attributes, s.thread_name, s.task_name,
       s.trace_id, s.span_id, s.parent_span_id, s.id
FROM spans AS s JOIN processes AS p ON p.id = s.process;
