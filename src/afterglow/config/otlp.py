"""OTLP that others send: how much of it is taken, and what is taken out of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["OtlpConfig"]

_MIB = 1 << 20


class OtlpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of what senders send as OTLP, and attributes whose values are not kept."""

    max_body_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request with a larger body, as it comes over the wire, is refused.",
            ("AFTERGLOW_OTLP_MAX_BODY_BYTES",),
            1_024,
            1 << 30,
        ),
    ] = 16 * _MIB
    max_decompressed_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request whose body is larger when it has been decompressed is refused.",
            ("AFTERGLOW_OTLP_MAX_DECOMPRESSED_BYTES",),
            1_024,
            1 << 30,
        ),
    ] = 64 * _MIB
    max_spans: Annotated[
        int,
        Setting(
            "spans",
            "A request with more is refused.",
            ("AFTERGLOW_OTLP_MAX_SPANS",),
            1,
            10_000_000,
        ),
    ] = 100_000
