"""The closed list of counters: where every span went.

    recorded = written + dropped (by reason) + in_flight        at every moment, per process

`recorded` counts spans that were ended. A span that was never begun because a sampler or
the budget refused its trace is no recorded span; it is counted in `not_recorded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypedDict, get_args

__all__ = [
    "BUFFER_DROP_REASONS",
    "CHANGE_KINDS",
    "COLLECT_COUNTERS",
    "DROP_REASONS",
    "FORGET_REASONS",
    "HOT_COUNTERS",
    "KEEP_COUNTERS",
    "NOT_RECORDED_REASONS",
    "OTLP_CHANGES",
    "BufferDropReason",
    "Change",
    "CollectCounter",
    "DropReason",
    "ForgetReason",
    "HotCounter",
    "KeepCounter",
    "Ledger",
    "NotRecordedReason",
    "OtlpChange",
    "balanced",
    "new_ledger",
]

DropReason = Literal[
    "queue_full",  # no room: the policy is drop_newest, or drop_oldest lost its try for the lock
    "oldest",  # drop_oldest made room by dropping the span that had waited longest
    "closed",  # ended after close(), or while the interpreter was going down
    "unencodable",  # could not be encoded even after cleaning
    "sink_refused",  # the sink said that it will never take it
    "shutdown_timeout",  # close() saw no progress for shutdown_timeout_s
    "journal_limit",  # the oldest journal went, to keep max_journal_bytes; nobody had read it
]

NotRecordedReason = Literal[
    "sampled_out",  # the ratio decided against the trace
    "budget",  # max_spans_per_second was used up when the trace began
    "parent",  # the caller in another process does not record this trace
]

Change = Literal[
    "attributes_dropped",  # beyond the limit of attributes, or a key that cannot be one
    "values_changed",  # values of a type that attributes cannot have, made strings
    "values_truncated",  # strings cut to the limit of length
    "events_dropped",
    "links_dropped",
    "names_changed",  # names that were no str, or held what UTF-8 cannot
]

BufferDropReason = Literal[
    "duplicate",  # the same span of the same trace was taken in before
    "invalid_id",  # a trace id that is not 16 bytes, or a span id that is not 8; or zeros only
    "too_large",  # one payload above max_span_bytes
    "expired",  # nobody flushed for ttl_s, and Redis let it go
    "sink_refused",  # the sink said that it will never take it
]

#: What a trace store counts; `TraceStore.counters()` has them all.
KeepCounter = Literal[
    "stored",  # entries stored, new or with new content
    "unchanged",  # stored again as they were: nothing to write
    "reinforced",
    "coactivated",
    "deleted",
    "refused",  # reinforcements and co-activations, with a reason
    "flushed",  # entries written
    "missing",  # reinforcements and links that came to nothing: others removed the entry
    "set_aside",  # changes that the database would not take, given up and reported
    "pruned",  # faded
    "evicted",  # beyond the quota
    "erased",
    "flush_errors",  # flushes that failed; what they would have written stays
    "maintenance_errors",  # steps in the background that failed
]

# Spans that were in the database and are counted in `forgotten` there (docs/retention.md).
ForgetReason = Literal[
    "faded",  # the strength of its trace came to its end
    "quota",  # the file, or the number of traces, needed room
    "asked",  # `afterglow forget`
]

#: What the hot tier of a trace store counts, in entries; in `TraceStore.counters()` where it is.
HotCounter = Literal[
    "hot_hits",  # read from Redis
    "hot_misses",  # asked of Redis, and read from PostgreSQL
    "hot_fills",  # copied into Redis
    "hot_stale",  # not copied: somebody had changed them meanwhile, or Redis did not take them
    "hot_marks",  # marked as changed, before the change
    "hot_room",  # removed because Redis was full
    "hot_resting",  # not asked or not marked, for Redis was away a moment ago
    "hot_troubles",  # times that Redis did not do its part
]

#: What a collector counts (`afterglow serve`), with its labels; `/metrics` has them all.
CollectCounter = Literal[
    "requests",  # face, outcome: accepted, partial, refused, malformed, too_large, unauthorized ...
    "received_bytes",  # face: of bodies, as they came
    "received_spans",  # face: in bodies that could be read
    "accepted_spans",  # face: safe with the buffer
    "refused_spans",  # face, reason: the sender's still, to be sent again
    "dropped_spans",  # face, reason: see BufferDropReason; counted in the buffer's books too
    "changed_spans",  # kind: see OtlpChange
    "sink_spans",  # sink: written, or sent and answered
    "sink_queued_spans",  # sink: put into its queue on the disk, because it was away
    "sink_dropped_spans",  # sink, reason: sink_refused, queue_full, damaged
    "sink_retries",  # sink: times that it was away
]

#: What is changed in a span of others before it is kept.
OtlpChange = Literal[
    "scrubbed",  # values of attributes whose key says that they are secret
    "attributes_dropped",  # beyond the limit of attributes, events or links
    "values_truncated",  # strings cut to the limit of length
]

COLLECT_COUNTERS: Final[tuple[CollectCounter, ...]] = get_args(CollectCounter)
OTLP_CHANGES: Final[tuple[OtlpChange, ...]] = get_args(OtlpChange)
DROP_REASONS: Final[tuple[DropReason, ...]] = get_args(DropReason)
NOT_RECORDED_REASONS: Final[tuple[NotRecordedReason, ...]] = get_args(NotRecordedReason)
BUFFER_DROP_REASONS: Final[tuple[BufferDropReason, ...]] = get_args(BufferDropReason)
FORGET_REASONS: Final[tuple[ForgetReason, ...]] = get_args(ForgetReason)
CHANGE_KINDS: Final[tuple[Change, ...]] = get_args(Change)
KEEP_COUNTERS: Final[tuple[KeepCounter, ...]] = get_args(KeepCounter)
HOT_COUNTERS: Final[tuple[HotCounter, ...]] = get_args(HotCounter)


class Ledger(TypedDict):
    """One consistent reading of the books; every count is of spans."""

    recorded: int
    written: int
    dropped: dict[str, int]
    in_flight: int
    not_recorded: dict[str, int]
    changed: dict[str, int]


def new_ledger() -> Ledger:
    """Books on which nothing has happened yet."""
    return Ledger(recorded=0, written=0, dropped={}, in_flight=0, not_recorded={}, changed={})


def balanced(ledger: Mapping[str, object]) -> bool:
    """Whether recorded = written + dropped + in flight."""
    dropped = ledger["dropped"]
    if not isinstance(dropped, Mapping):
        return False
    numbers = [ledger["recorded"], ledger["written"], ledger["in_flight"], *dropped.values()]
    if not all(isinstance(n, int) for n in numbers):
        return False
    recorded, written, in_flight, *drops = (n for n in numbers if isinstance(n, int))
    return recorded == written + in_flight + sum(drops)
