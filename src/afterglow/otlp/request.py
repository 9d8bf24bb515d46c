"""A request of OTLP, cut into spans that a buffer takes."""

from __future__ import annotations

import re
from typing import Any, Final, Self

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from afterglow.config.otlp import OtlpConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ledger import OtlpChange
from afterglow.model.segment import BufferedSpan
from afterglow.otlp.splice import field

__all__ = ["OtlpRequest", "OtlpRules", "read_request"]

_SERVER, _CONSUMER = 2, 5
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_ROOT_ATTRIBUTE: Final = "afterglow.segment_root"


class OtlpRules(msgspec.Struct, frozen=True):
    """What `read_request` holds a request against; made of settings by `of`."""

    config: OtlpConfig
    secret: re.Pattern[str] | None = None

    @classmethod
    def of(cls, config: OtlpConfig) -> Self:
        return cls(config)


class OtlpRequest(msgspec.Struct):
    """The spans of a request, and what was changed in them."""

    spans: list[BufferedSpan]
    changed: dict[OtlpChange, int] = {}


def read_request(body: bytes, *, json: bool, project: str, rules: OtlpRules) -> OtlpRequest:
    """The spans of a body (an ExportTraceServiceRequest, as protobuf or OTLP's JSON).

    Spans with ids that are none stay as they came: the buffer counts them. Raises
    MalformedOtlpError, OtlpLimitError.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise MalformedOtlpError(f"the body is no OTLP trace request: {error}") from None
    spans: list[BufferedSpan] = []
    for resource_spans in request.resource_spans:
        resource = field(0x0A, resource_spans.resource.SerializeToString())
        for scope_spans in resource_spans.scope_spans:
            scope = field(0x0A, scope_spans.scope.SerializeToString())
            for span in scope_spans.spans:
                payload = resource + field(0x12, scope + field(0x12, span.SerializeToString()))
                parent = span.parent_span_id
                spans.append(
                    BufferedSpan(
                        project,
                        span.trace_id,
                        span.span_id,
                        parent or None,
                        bool(parent) and _is_segment_root(span),
                        payload,
                    )
                )
    if len(spans) > rules.config.max_spans:
        raise OtlpLimitError(
            f"the request has {len(spans):,} spans, and may have {rules.config.max_spans:,}"
        )
    return OtlpRequest(spans)


def _is_segment_root(span: Any) -> bool:
    flags = span.flags
    if span.kind in (_SERVER, _CONSUMER):
        return not flags & _REMOTE_KNOWN or bool(flags & _REMOTE)
    return any(a.key == _ROOT_ATTRIBUTE and a.value.bool_value for a in span.attributes)
