-- Spans that collectors received, from any number of processes at once (docs/postgres-store.md).
-- Everything is a project's: its id is the first column of every key. Ids of traces and spans are
-- bytes. Texts hold no NUL: it is escaped (text.py); so are those inside of jsonb.

CREATE TABLE afterglow_spans.project (
    project_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- One row a resource, which readers take for a run of one process.
CREATE TABLE afterglow_spans.process (
    process_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id integer NOT NULL REFERENCES afterglow_spans.project,
    run_id text COLLATE "C" NOT NULL,           -- of project and resource
    pid bigint NOT NULL,
    service text NOT NULL,
    host text NOT NULL,
    start_ns bigint NOT NULL,                   -- of the first span that came
    resource text NOT NULL,                     -- JSON object
    UNIQUE (project_id, run_id)
);

-- Who writes spans of a trace, or forgets them, locks its row first, several in the order of the
-- key: so nobody waits in a circle, and nobody adds to what is being forgotten. `version` goes up
-- with each change that an entry should know of.
CREATE TABLE afterglow_spans.trace (
    project_id integer NOT NULL,
    trace_id bytea NOT NULL,
    version bigint NOT NULL,
    service text NOT NULL,                      -- of the root's process
    name text NOT NULL,                         -- of the root; of any span while it is not there
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    duration_ns bigint,                         -- of the root
    status text NOT NULL,                       -- of the root
    root smallint NOT NULL,                     -- 0 none yet, 2 a local root, 4 a true one
    root_start_ns bigint NOT NULL,              -- of two such roots, the earlier one counts
    root_span_id bytea NOT NULL,
    spans bigint NOT NULL,
    errors bigint NOT NULL,
    bytes bigint NOT NULL,                      -- that its rows take, about
    assembled_ns bigint NOT NULL,               -- when its newest segment came
    pinned boolean NOT NULL DEFAULT false,
    kind text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    changed boolean NOT NULL DEFAULT true,      -- its entry does not know of this row yet
    PRIMARY KEY (project_id, trace_id)
) WITH (fillfactor = 80);
CREATE INDEX trace_changed ON afterglow_spans.trace (project_id) WHERE changed;
CREATE INDEX trace_pinned ON afterglow_spans.trace (project_id) WHERE pinned;

CREATE TABLE afterglow_spans.span (
    project_id integer NOT NULL,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    parent_span_id bytea,
    process_id bigint NOT NULL,
    name text NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    self_ns bigint NOT NULL,                    -- less the union of the children's times
    place smallint NOT NULL,                    -- 0 its parent is here, 1 in another process, 2 not
    kind text NOT NULL,
    status text NOT NULL,
    status_description text NOT NULL,
    trace_state text NOT NULL,
    trace_flags bigint NOT NULL,
    scope text NOT NULL,
    scope_version text NOT NULL,
    dropped_attributes bigint NOT NULL,
    dropped_events bigint NOT NULL,
    dropped_links bigint NOT NULL,
    remote_parent boolean NOT NULL,
    attributes jsonb NOT NULL,
    events jsonb,                               -- array of [name, time_ns, attributes, dropped]
    links jsonb,                                -- array of [trace, span, state, attributes, dropped]
    PRIMARY KEY (project_id, trace_id, span_id)
);
-- Where a tree begins, for the whole project and for one process.
CREATE INDEX span_tops ON afterglow_spans.span (project_id, process_id, (end_ns - start_ns))
    WHERE place > 0;

-- Parts of segments, one row each; a delivery that is made twice has the same message ids.
CREATE TABLE afterglow_spans.segment (
    project_id integer NOT NULL,
    trace_id bytea NOT NULL,
    message_id uuid NOT NULL,
    root_span_id bytea NOT NULL,
    part integer NOT NULL,
    is_last boolean NOT NULL,
    addendum boolean NOT NULL,
    spans integer NOT NULL,
    unreadable integer NOT NULL,
    assembled_ns bigint NOT NULL,
    PRIMARY KEY (project_id, trace_id, message_id)
);

-- The books: sums of spans by counter (received, stored, duplicate, unreadable, forgotten) and
-- reason. Each page adds rows of its own, so that nobody waits for a hot one; a keeper adds them
-- up. `process_id` 0: the project's as a whole.
CREATE TABLE afterglow_spans.book (
    project_id integer NOT NULL,
    process_id bigint NOT NULL,
    counter text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    spans bigint NOT NULL,
    errors bigint NOT NULL,
    start_ns bigint NOT NULL,                   -- the first and the last moment that they tell of
    end_ns bigint NOT NULL
);
CREATE INDEX book_by_process ON afterglow_spans.book (project_id, process_id);

-- What a keeper has not looked at yet: how long the roots of a name took, and links between traces.
CREATE TABLE afterglow_spans.new_roots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id integer NOT NULL,
    service text NOT NULL,
    name text NOT NULL,
    errors bigint NOT NULL,
    seen_ns bigint NOT NULL,
    histogram bytea NOT NULL                    -- see analyse/histogram.py
);
CREATE INDEX new_roots_by_project ON afterglow_spans.new_roots (project_id, id);
CREATE TABLE afterglow_spans.new_link (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id integer NOT NULL,
    trace_id bytea NOT NULL,
    to_trace_id bytea NOT NULL
);
CREATE INDEX new_link_by_project ON afterglow_spans.new_link (project_id, id);

-- What is usual for traces of one name. `key` is a digest of service and name, which may be long.
CREATE TABLE afterglow_spans.trace_name (
    project_id integer NOT NULL,
    key bytea NOT NULL,
    service text NOT NULL,
    name text NOT NULL,
    traces bigint NOT NULL,
    errors bigint NOT NULL,
    seen_ns bigint NOT NULL,
    histogram bytea NOT NULL,
    PRIMARY KEY (project_id, key)
);

-- The figures of spans that are no longer there; `key` is a digest of the name.
CREATE TABLE afterglow_spans.forgotten (
    project_id integer NOT NULL,
    process_id bigint NOT NULL,
    key bytea NOT NULL,
    name text NOT NULL,
    spans bigint NOT NULL,
    errors bigint NOT NULL,
    total_ns numeric NOT NULL,
    self_ns numeric NOT NULL,
    min_ns bigint NOT NULL,
    max_ns bigint NOT NULL,
    histogram bytea NOT NULL,
    PRIMARY KEY (project_id, process_id, key)
);

-- How many traces were forgotten, by reason.
CREATE TABLE afterglow_spans.forgotten_traces (
    project_id integer NOT NULL,
    reason text COLLATE "C" NOT NULL,
    traces bigint NOT NULL,
    PRIMARY KEY (project_id, reason)
);
