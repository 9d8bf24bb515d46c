"""The span buffer: when a segment is due, how big things may be, and how Redis is used."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from afterglow.config.setting import Setting

__all__ = ["BufferConfig", "RolloutPhase"]

RolloutPhase = Literal[0, 1, 2, 3]

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30
_DAY_S = 86_400.0


class BufferConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The span buffer, in memory and in Redis; every limit and timeout of it."""

    url: Annotated[
        str,
        Setting(
            "",
            "Where spans wait for their trees: memory: (in this process), redis://host:port, or "
            "redis+cluster://host:port,host:port.",
            ("AFTERGLOW_BUFFER_URL",),
        ),
    ] = "memory:"
    root_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A segment whose root was seen is due when nothing was added to it for so long.",
            ("AFTERGLOW_BUFFER_ROOT_TIMEOUT_S",),
            0.0,
            _DAY_S,
        ),
    ] = 10.0
    timeout_s: Annotated[
        float,
        Setting(
            "s",
            "The same for a segment whose root never came.",
            ("AFTERGLOW_BUFFER_TIMEOUT_S",),
            0.0,
            _DAY_S,
        ),
    ] = 60.0
    max_open_s: Annotated[
        float,
        Setting(
            "s",
            "What is there of a segment goes out after so long, even while more comes.",
            ("AFTERGLOW_BUFFER_MAX_OPEN_S",),
            0.0,
            _DAY_S,
        ),
    ] = 600.0
    tombstone_s: Annotated[
        float,
        Setting(
            "s",
            "So long after a segment went out, late spans find its root, and repeats are known.",
            ("AFTERGLOW_BUFFER_TOMBSTONE_S",),
            0.0,
            _DAY_S,
        ),
    ] = 300.0
    lease_s: Annotated[
        float,
        Setting(
            "s",
            "A flusher that did not acknowledge what it took for so long is taken for dead.",
            ("AFTERGLOW_BUFFER_LEASE_S",),
            0.1,
            _DAY_S,
        ),
    ] = 60.0
    max_segment_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A larger segment goes out in numbered parts; a larger span goes alone.",
            ("AFTERGLOW_BUFFER_MAX_SEGMENT_BYTES",),
            1 * _KIB,
            1 * _GIB,
        ),
    ] = 10 * _MIB
    max_span_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A span with a larger payload is dropped and counted (too_large).",
            ("AFTERGLOW_BUFFER_MAX_SPAN_BYTES",),
            1,
            256 * _MIB,
        ),
    ] = 64 * _MIB
    max_held_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "The memory buffer refuses more than this (payloads, and about 250 bytes a span), so "
            "that senders wait.",
            ("AFTERGLOW_BUFFER_MAX_HELD_BYTES",),
            1 * _KIB,
            1 << 50,
        ),
    ] = 256 * _MIB
    shards: Annotated[
        int,
        Setting(
            "shards",
            "Parts of the queue that flushers share out; at most the 64 index buckets.",
            ("AFTERGLOW_BUFFER_SHARDS",),
            1,
            64,
        ),
    ] = 16
    # --- Redis ---
    key_prefix: Annotated[
        str,
        Setting(
            "",
            "How every key begins; two buffers with different prefixes share a Redis.",
            ("AFTERGLOW_BUFFER_KEY_PREFIX",),
            1,
            200,
        ),
    ] = "span-buf"
    rollout_phase: Annotated[
        int | None,
        Setting(
            "phase",
            "0 colocated; 1 write both, read colocated; 2 write both, read distributed; 3 "
            "distributed. None follows what `afterglow buffer rollout` last said (3 where it "
            "never did).",
            ("AFTERGLOW_BUFFER_ROLLOUT_PHASE",),
            0,
            3,
        ),
    ] = None
    inline_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A smaller subsegment rides inside its index entry; 0: none does.",
            ("AFTERGLOW_BUFFER_INLINE_BYTES",),
            0,
            1 * _MIB,
        ),
    ] = 32 * _KIB
    inline_entries: Annotated[
        int,
        Setting(
            "entries",
            "A trace with more entries than this is spread over all nodes.",
            ("AFTERGLOW_BUFFER_INLINE_ENTRIES",),
            0,
            1_000_000,
        ),
    ] = 128
    chunk_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "Spread payloads are cut at this size, so that no command is long.",
            ("AFTERGLOW_BUFFER_CHUNK_BYTES",),
            1 * _KIB,
            16 * _MIB,
        ),
    ] = 256 * _KIB
    wait_replicas: Annotated[
        int | None,
        Setting(
            "replicas",
            "So many replicas have a write before add() returns. None: 1 on a cluster, else 0; "
            "at 0 a failover may lose the last writes.",
            ("AFTERGLOW_BUFFER_WAIT_REPLICAS",),
            0,
            5,
        ),
    ] = None
    redis_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "How long one answer of Redis may take; a slower node counts as away.",
            ("AFTERGLOW_BUFFER_REDIS_TIMEOUT_S",),
            0.05,
            600.0,
        ),
    ] = 5.0
    max_memory_share: Annotated[
        float,
        Setting(
            "share",
            "A node that is fuller than this makes ingest refuse, so that flushing gets on.",
            ("AFTERGLOW_BUFFER_MAX_MEMORY_SHARE",),
            0.05,
            1.0,
        ),
    ] = 0.8
    ttl_s: Annotated[
        float,
        Setting(
            "s",
            "Every key but the control keys is gone after so long without flushers.",
            ("AFTERGLOW_BUFFER_TTL_S",),
            60.0,
            365 * _DAY_S,
        ),
    ] = 7 * _DAY_S
