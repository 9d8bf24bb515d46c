"""The resource and the scope of spans: the SDK's classes where it is installed, else the least."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from afterglow.otel.api import HAS_SDK
from afterglow.version import VERSION

logger = logging.getLogger("afterglow.otel")

__all__ = [
    "InstrumentationScope",
    "Resource",
    "default_resource",
    "default_tracer_config",
    "instrumentation",
    "resource_text",
]


class _Resource:
    """Attributes of whoever makes spans; immutable."""

    def __init__(self, attributes: Mapping[str, Any], schema_url: str | None = None) -> None:
        self._attributes = dict(attributes)
        self.schema_url = schema_url or ""

    @classmethod
    def create(
        cls, attributes: Mapping[str, Any] | None = None, schema_url: str | None = None
    ) -> _Resource:
        """Defaults, then OTEL_RESOURCE_ATTRIBUTES, then `attributes`, then OTEL_SERVICE_NAME."""
        argv0 = (getattr(sys, "argv", None) or [""])[0]
        found: dict[str, Any] = {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "afterglow",
            "telemetry.sdk.version": VERSION,
            "service.name": f"unknown_service:{Path(argv0).stem or 'python'}",
        }
        for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
            key, equals, value = pair.partition("=")
            if equals and key.strip():
                found[key.strip()] = unquote(value.strip())
            elif pair.strip():
                logger.warning(
                    "OTEL_RESOURCE_ATTRIBUTES: %r is no key=value; it is left out", pair.strip()
                )
        found.update(attributes or {})
        if service := os.environ.get("OTEL_SERVICE_NAME", "").strip():
            found["service.name"] = service
        return cls(found, schema_url)

    @property
    def attributes(self) -> Mapping[str, Any]:
        return MappingProxyType(self._attributes)

    def merge(self, other: Any) -> _Resource:
        """Both; where both say something, the other one counts, unless it is empty."""
        merged = {**self._attributes}
        merged.update({k: v for k, v in other.attributes.items() if v != "" or k not in merged})
        return _Resource(merged, other.schema_url or self.schema_url)

    def to_json(self, indent: int | None = 4) -> str:
        return json.dumps(
            {"attributes": self._attributes, "schema_url": self.schema_url},
            indent=indent,
            default=str,
        )


class _InstrumentationScope(NamedTuple):
    """Which library a tracer is of."""

    name: str
    version: str | None = None
    schema_url: str | None = None
    attributes: Any = None


if TYPE_CHECKING:
    Resource = _Resource
    InstrumentationScope = _InstrumentationScope
elif HAS_SDK:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
else:
    Resource = _Resource
    InstrumentationScope = _InstrumentationScope


def default_resource() -> Any:
    """What a provider has that was given none."""
    return Resource.create({})


def instrumentation(
    name: str, version: str, schema_url: str | None, attributes: Any
) -> tuple[Any, Any]:
    """The scope, and the older form of it that the SDK still has (else None)."""
    scope = InstrumentationScope(name, version, schema_url, attributes)
    if not HAS_SDK:
        return scope, None
    from opentelemetry.sdk.util.instrumentation import InstrumentationInfo

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return scope, InstrumentationInfo(name, version, schema_url)


def default_tracer_config() -> Any:
    """The SDK's own "this scope is on", where there is an SDK."""
    if not HAS_SDK:
        return None
    from opentelemetry.sdk import trace

    config = getattr(trace, "_TracerConfig", None)
    return None if config is None else config.default()


def resource_text(resource: Any) -> dict[str, str]:
    """The attributes as the file has them: texts."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in resource.attributes.items()
    }
