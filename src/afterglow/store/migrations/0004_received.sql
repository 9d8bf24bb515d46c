-- What collectors brought (`afterglow serve`). Spans that were received are rows of spans like
-- any other; each resource that sent some is a row of processes, with the state 'received'.

-- One row a part of a delivery of a segment: these spans of a trace are assembled. A delivery
-- that is made twice has the same message ids, so it is here once.
CREATE TABLE segments (
    trace_id      TEXT    NOT NULL,
    root_span_id  TEXT    NOT NULL,
    message_id    TEXT    NOT NULL,             -- 32 digits
    part          INTEGER NOT NULL,             -- from 0, in each delivery
    is_last       INTEGER NOT NULL,             -- 1: the last part of its delivery
    addendum      INTEGER NOT NULL,             -- 1: something of the segment went out before
    spans         INTEGER NOT NULL,             -- that the part brought, here before or not
    unreadable    INTEGER NOT NULL DEFAULT 0,   -- of these, could not be decoded: not in spans
    assembled_ns  INTEGER NOT NULL,             -- when it was written here
    PRIMARY KEY (trace_id, root_span_id, message_id)
) WITHOUT ROWID;
