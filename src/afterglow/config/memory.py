"""`afterglow memory`, and the snapshots of every trace store."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["ErrorConfig", "MemoryConfig", "SnapshotConfig"]


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`afterglow memory`: a store of one's own, such as an agent's memory."""

    memory_database: Annotated[
        str,
        Setting(
            "file or URL",
            "Apart from the recorded runs, for a memory outlives them. postgresql://... is shared "
            "by processes.",
            ("AFTERGLOW_MEMORY_DATABASE",),
        ),
    ] = "memory.db"
    memory_partition: Annotated[
        str,
        Setting(
            "",
            "Several memories in one database do not see each other.",
            ("AFTERGLOW_MEMORY_PARTITION",),
            1,
            200,
        ),
    ] = "default"


class SnapshotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshots of a trace store."""

    snapshot_key: Annotated[
        str | None,
        Setting(
            "characters",
            "The secret that snapshots are sealed with, so that a forged or damaged one is "
            "refused; without it there are none. Whoever restores needs the same.",
            ("AFTERGLOW_SNAPSHOT_KEY",),
            16,
            1024,
            secret=True,
        ),
    ] = None
    snapshot_folder: Annotated[
        str | None,
        Setting(
            "path",
            "Where they lie. None: FILE.snapshots beside an SQLite file; a store in PostgreSQL "
            "needs one named.",
            ("AFTERGLOW_SNAPSHOT_FOLDER",),
        ),
    ] = None


class ErrorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The recorder of logged errors."""

    error_queue_size: Annotated[
        int,
        Setting(
            "errors",
            "Bounds what waits to be stored; more are dropped, and counted.",
            ("AFTERGLOW_ERROR_QUEUE_SIZE",),
            1,
            1_000_000,
        ),
    ] = 1_000
    error_window_s: Annotated[
        float,
        Setting(
            "s",
            "An error that comes again within this is counted, not stored.",
            ("AFTERGLOW_ERROR_WINDOW_S",),
            0.0,
            86_400.0,
        ),
    ] = 60.0
