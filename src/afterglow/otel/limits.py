"""Limits of a span, with the names and environment variables of the SDK's SpanLimits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

__all__ = ["VARIABLES", "SpanLimits"]

VARIABLES = (
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)

_DEFAULT = 128  # OpenTelemetry specification, common, attribute limits


class SpanLimits:
    """How many attributes, events and links a span may have, and how long a text may be.

    None means the environment (`OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT` and its like), else the default
    of the specification; `SpanLimits.UNSET` means no limit. Raises ValueError for what is not
    a number of 0 or more.
    """

    UNSET: ClassVar[int] = -1

    def __init__(
        self,
        max_attributes: int | None = None,
        max_events: int | None = None,
        max_links: int | None = None,
        max_span_attributes: int | None = None,
        max_event_attributes: int | None = None,
        max_link_attributes: int | None = None,
        max_attribute_length: int | None = None,
        max_span_attribute_length: int | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environment is None else environment

        def limit(value: int | None, variable: str, default: int | None) -> int | None:
            return self._limit(value, variable, default, environ)

        self.max_events = limit(max_events, "OTEL_SPAN_EVENT_COUNT_LIMIT", _DEFAULT)
        self.max_links = limit(max_links, "OTEL_SPAN_LINK_COUNT_LIMIT", _DEFAULT)
        every = limit(max_attributes, "OTEL_ATTRIBUTE_COUNT_LIMIT", None)
        count = _DEFAULT if every is None else every
        self.max_attributes = count
        self.max_span_attributes = limit(
            max_span_attributes, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count
        )
        self.max_event_attributes = limit(
            max_event_attributes, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count
        )
        self.max_link_attributes = limit(
            max_link_attributes, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count
        )
        self.max_attribute_length = limit(
            max_attribute_length, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None
        )
        self.max_span_attribute_length = limit(
            max_span_attribute_length,
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            self.max_attribute_length,
        )

    @classmethod
    def _limit(
        cls, value: int | None, variable: str, default: int | None, environ: Mapping[str, str]
    ) -> int | None:
        if value == cls.UNSET:
            return None
        if value is None:
            text = environ.get(variable)
            if text is None:
                return default
            if not text.strip():
                return None
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{variable}={text!r} is not a number of 0 or more") from None
        if value < 0:
            raise ValueError(f"{variable}: {value} is not a number of 0 or more")
        return value

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"
