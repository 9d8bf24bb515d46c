"""The trace store: how much may wait to be written, and how often it looks after itself."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["KeepConfig"]

_MIB = 1 << 20
_DAY_S = 86_400.0


class KeepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The trace store, in a program that uses one."""

    max_entry_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A larger payload is refused: it would displace all others.",
            ("AFTERGLOW_KEEP_MAX_ENTRY_BYTES",),
            1,
            512 * _MIB,
        ),
    ] = 16 * _MIB
    max_dirty_entries: Annotated[
        int,
        Setting(
            "changes",
            "When so many wait to be written, whoever brings the next one flushes first.",
            ("AFTERGLOW_KEEP_MAX_DIRTY_ENTRIES",),
            1,
            100_000_000,
        ),
    ] = 131_072
    max_dirty_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "The same for the payloads that wait; bounds the memory that they take.",
            ("AFTERGLOW_KEEP_MAX_DIRTY_BYTES",),
            1,
            1 << 40,
        ),
    ] = 128 * _MIB
    flush_interval_s: Annotated[
        float,
        Setting(
            "s",
            "Changes are written so often in the background: what a kill -9 can cost. 0: never.",
            ("AFTERGLOW_KEEP_FLUSH_INTERVAL_S",),
            0.0,
            _DAY_S,
        ),
    ] = 5.0
    decay_interval_s: Annotated[
        float,
        Setting(
            "s",
            "The tick is advanced, and what has faded is removed, so often. 0: never.",
            ("AFTERGLOW_KEEP_DECAY_INTERVAL_S",),
            0.0,
            _DAY_S,
        ),
    ] = 60.0
    tier_interval_s: Annotated[
        float,
        Setting(
            "s",
            "What has become warm or cold is counted so often. 0: never.",
            ("AFTERGLOW_KEEP_TIER_INTERVAL_S",),
            0.0,
            _DAY_S,
        ),
    ] = 300.0
    quota_interval_s: Annotated[
        float,
        Setting(
            "s",
            "What is beyond the profile's quota is removed so often. 0: never.",
            ("AFTERGLOW_KEEP_QUOTA_INTERVAL_S",),
            0.0,
            _DAY_S,
        ),
    ] = 300.0
