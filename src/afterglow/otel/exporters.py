"""Exporters of the SDK beside our writer, as OTEL_TRACES_EXPORTER names them.

Each reads its own variables (OTEL_EXPORTER_OTLP_ENDPOINT and so on) and gets a batch processor of
the SDK's, which reads OTEL_BSP_*.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from afterglow.otel.environment import logger

__all__ = ["processors_from_environment"]

_GROUP = "opentelemetry_traces_exporter"
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
#: Our own writer is always there: these names ask for nothing besides.
_OURS = frozenset({"", "none", "afterglow"})
_PACKAGES = {
    "console": "opentelemetry-sdk",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
    "zipkin": "opentelemetry-exporter-zipkin",
}


def processors_from_environment() -> Iterator[Any]:
    """A processor for each exporter that is named; one line for each that cannot be had."""
    given = os.environ.get("OTEL_TRACES_EXPORTER", "")
    names = (name.strip().lower() for name in given.split(","))
    for name in dict.fromkeys(name for name in names if name not in _OURS):
        processor = _processor(name)
        if processor is not None:
            yield processor


def _processor(name: str) -> Any:
    found = _otlp() if name == "otlp" else _entry_point(name)
    if found is None:
        package = _PACKAGES.get(_otlp_name() if name == "otlp" else name)
        hint = f"pip install {package}" if package else "is it installed?"
        logger.warning("OTEL_TRACES_EXPORTER=%s: there is no such exporter here: %s", name, hint)
        return None
    try:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return BatchSpanProcessor(found.load()())
    except Exception as error:  # noqa: BLE001  what an exporter raises for its variables
        logger.warning("OTEL_TRACES_EXPORTER=%s cannot be used: %s", name, error)
        return None


def _otlp() -> EntryPoint | None:
    """The exporter for the protocol that is set; else gRPC, or HTTP where only that is here."""
    wanted = _entry_point(_otlp_name())
    if wanted is not None or _protocol():
        return wanted
    return _entry_point(_OTLP["http/protobuf"])


def _otlp_name() -> str:
    return _OTLP.get(_protocol() or "grpc", _protocol())


def _protocol() -> str:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(variable, "").strip():
            return protocol
    return ""


def _entry_point(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=_GROUP, name=name)), None)
