"""Flushers: how they take, wait, and are watched."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["FlushConfig"]

_MIB = 1 << 20
_GIB = 1 << 30


class FlushConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Flushers, which take segments that are due and write them to a sink, and their supervisor."""

    flushers: Annotated[
        int,
        Setting(
            "processes",
            "So many flusher processes on this host; the host's shards go to flusher i mod n.",
            ("AFTERGLOW_FLUSHERS",),
            1,
            64,
        ),
    ] = 1
    max_segments: Annotated[
        int,
        Setting(
            "segments",
            "A flusher takes at most so many at once.",
            ("AFTERGLOW_FLUSH_MAX_SEGMENTS",),
            1,
            1_000_000,
        ),
    ] = 1_000
    page_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A sink is given about so much at once.",
            ("AFTERGLOW_FLUSH_PAGE_BYTES",),
            1,
            1 * _GIB,
        ),
    ] = 32 * _MIB
    idle_s: Annotated[
        float,
        Setting(
            "s",
            "A flusher that finds nothing due looks again after so long.",
            ("AFTERGLOW_FLUSH_IDLE_S",),
            0.01,
            60.0,
        ),
    ] = 0.5
    retry_s: Annotated[
        float,
        Setting(
            "s",
            "The first wait when sink or buffer is away, or a flusher died; later ones are up to "
            "16 times as long.",
            ("AFTERGLOW_FLUSH_RETRY_S",),
            0.01,
            60.0,
        ),
    ] = 0.5
    limit_s: Annotated[
        float,
        Setting(
            "s",
            "A flusher that has been behind for so long makes ingest refuse until it caught up.",
            ("AFTERGLOW_FLUSH_LIMIT_S",),
            0.1,
            3_600.0,
        ),
    ] = 10.0
    start_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "All flushers are healthy after so long, or the service does not start.",
            ("AFTERGLOW_FLUSH_START_TIMEOUT_S",),
            0.1,
            3_600.0,
        ),
    ] = 30.0
    hung_s: Annotated[
        float,
        Setting(
            "s",
            "A flusher that gave no sign of life for so long is killed and started again; longer "
            "than the slowest write of the sink.",
            ("AFTERGLOW_FLUSH_HUNG_S",),
            0.1,
            3_600.0,
        ),
    ] = 60.0
    steady_s: Annotated[
        float,
        Setting(
            "s",
            "A flusher that lived for so long starts anew with its count of deaths in a row.",
            ("AFTERGLOW_FLUSH_STEADY_S",),
            0.1,
            3_600.0,
        ),
    ] = 30.0
    stop_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "Stopping waits so long for the page that is being written, then kills.",
            ("AFTERGLOW_FLUSH_STOP_TIMEOUT_S",),
            0.1,
            3_600.0,
        ),
    ] = 30.0
    shard_lease_s: Annotated[
        float,
        Setting(
            "s",
            "A host that did not renew its shards for so long loses them to the others.",
            ("AFTERGLOW_FLUSH_SHARD_LEASE_S",),
            0.5,
            3_600.0,
        ),
    ] = 15.0
