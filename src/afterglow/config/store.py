"""Which of the projects in a store of received spans people look at."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["StoreConfig"]


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Reading what collectors received, from a file or from PostgreSQL."""

    store_project: Annotated[
        str,
        Setting(
            "",
            "The project that commands look at, where `--project` names none.",
            ("AFTERGLOW_STORE_PROJECT",),
            1,
            64,
        ),
    ] = "default"
