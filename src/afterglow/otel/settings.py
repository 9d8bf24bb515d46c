"""Settings of the recorder behind a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afterglow import wiring
from afterglow.otel.limits import SpanLimits

__all__ = ["recorder_settings"]

_NO_LIMIT = 100_000  # the widest that RecordConfig takes


def recorder_settings(limits: SpanLimits, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, with limits that let through what a span of the provider may have.

    Raises SettingError for what cannot be used, here or in the environment.
    """
    settings = {
        "max_attributes": _at_most(limits.max_span_attributes),
        "max_events": _at_most(limits.max_events),
        "max_links": _at_most(limits.max_links),
        **given,
    }
    wiring.checked_settings(settings)
    return settings


def _at_most(limit: int | None) -> int:
    return _NO_LIMIT if limit is None else min(limit, _NO_LIMIT)
