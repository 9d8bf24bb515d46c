"""What a receiver of OTLP answers: ExportTraceServiceResponse, in protobuf or JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

__all__ = ["export_answer"]


def export_answer(rejected: int, why: str, *, json: bool) -> bytes:
    """Of a request that was taken, but for `rejected` spans that never will be."""
    if json:
        # By OTLP's JSON mapping: 64-bit numbers are texts.
        partial: dict[str, Any] = {"rejectedSpans": str(rejected), "errorMessage": why}
        return msgspec.json.encode({"partialSuccess": partial} if rejected else {})
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = why
    done: bytes = answer.SerializeToString()
    return done
