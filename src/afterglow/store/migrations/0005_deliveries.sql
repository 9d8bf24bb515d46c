-- What sinks brought to this file as parts of segments, over all time: what is forgotten takes its
-- rows of segments along, and the books of the service must still be held against something.
CREATE TABLE deliveries (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    brought  INTEGER NOT NULL,                  -- spans, each time that they came
    kept     INTEGER NOT NULL                   -- spans of parts that were not here before
);
INSERT INTO deliveries SELECT 1, coalesce(sum(spans), 0), coalesce(sum(spans), 0) FROM segments;

-- Before: also for a part that is here already, whose row is left out.
CREATE TRIGGER segments_brought BEFORE INSERT ON segments BEGIN
    UPDATE deliveries SET brought = brought + new.spans;
END;
CREATE TRIGGER segments_kept AFTER INSERT ON segments BEGIN
    UPDATE deliveries SET kept = kept + new.spans;
END;
