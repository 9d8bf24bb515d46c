"""The journal of a collector that runs without Redis."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from afterglow.config.setting import Setting

__all__ = ["IntakeConfig"]

_MIB = 1 << 20
_GIB = 1 << 30


class IntakeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What `afterglow serve` writes down before it acknowledges spans, where it has no Redis."""

    max_file_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "The journal is in files of about this size; each goes as a whole.",
            ("AFTERGLOW_INTAKE_MAX_FILE_BYTES",),
            64 << 10,
            4 * _GIB,
        ),
    ] = 16 * _MIB
    max_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A larger journal refuses what comes, until what it holds has gone out.",
            ("AFTERGLOW_INTAKE_MAX_BYTES",),
            1 * _MIB,
            1 << 50,
        ),
    ] = 4 * _GIB
    fsync: Annotated[
        Literal["never", "interval", "always"],
        Setting(
            "",
            "What was acknowledged survives the death of the process (never), a power failure but "
            "for the last second (interval), or any (always; slow).",
            ("AFTERGLOW_INTAKE_FSYNC",),
        ),
    ] = "never"
