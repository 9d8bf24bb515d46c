"""OpenTelemetry's API on Afterglow's recorder: a drop-in provider, with no SDK installed.

    from opentelemetry import trace
    from afterglow.otel import TracerProvider

    trace.set_tracer_provider(TracerProvider())

Needs the extra `otel`, which brings opentelemetry-api. docs/opentelemetry.md tells what differs
from the SDK.
"""

from __future__ import annotations

from afterglow.otel.limits import SpanLimits
from afterglow.otel.provider import TracerProvider
from afterglow.otel.resource import Resource
from afterglow.otel.span import Span
from afterglow.otel.tracer import Tracer

__all__ = ["Resource", "Span", "SpanLimits", "Tracer", "TracerProvider"]
