"""Exporters for the OpenTelemetry SDK: one that does nothing, one that writes OTLP to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class NothingExporter(SpanExporter):
    """Counts, and throws away."""

    def __init__(self) -> None:
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


class FileExporter(NothingExporter):
    """Appends each batch, encoded as an ExportTraceServiceRequest, with its length before it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("ab")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = encode_spans(spans).SerializeToString()
        self._file.write(len(body).to_bytes(4, "big") + body)
        self._file.flush()
        return super().export(spans)

    def shutdown(self) -> None:
        self._file.close()
