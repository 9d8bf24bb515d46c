"""Python's own OpenTelemetry SDK and exporters as senders: nothing but the endpoint is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpExporter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanProcessor,
)

from afterglow.otlp.payload import read_payloads

from .conftest import Rig

TOKEN = "python-token-0123456789"
HTTP = [Compression.NoCompression, Compression.Deflate, Compression.Gzip]
GRPC = [grpc.Compression.NoCompression, grpc.Compression.Deflate, grpc.Compression.Gzip]
ALL: list[tuple[str, Any]] = [("http", c) for c in HTTP] + [("grpc", c) for c in GRPC]


def exporter_to(rig: Rig, face: str, compression: Any, **more: Any) -> SpanExporter:
    if face == "http":
        url = f"http://{rig.http.address}/v1/traces"
        return HttpExporter(endpoint=url, compression=compression, **more)
    url = f"http://{rig.grpc.address}"
    return GrpcExporter(endpoint=url, insecure=True, compression=compression, **more)


@contextmanager
def provider(processor: SpanProcessor) -> Iterator[TracerProvider]:
    made = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    made.add_span_processor(processor)
    try:
        yield made
    finally:
        made.shutdown()


def trade(made: TracerProvider, n_traces: int) -> None:
    tracer = made.get_tracer("test", "1.0")
    for number in range(n_traces):
        with tracer.start_as_current_span("request", attributes={"number": number}):
            for _ in range(4):
                with tracer.start_as_current_span("query"):
                    pass


@pytest.mark.parametrize(("face", "compression"), ALL)
def test_every_span_of_a_batch_processor_arrives(rig: Rig, face: str, compression: Any) -> None:
    exporter = exporter_to(rig, face, compression)
    with provider(BatchSpanProcessor(exporter, max_queue_size=4_096)) as made:
        trade(made, 300)
        assert made.force_flush()
    received = read_payloads(span.payload for span in rig.buffer.spans)
    assert len(received) == 1_500
    numbers = [one.span.attributes["number"] for one in received if one.span.name == "request"]
    assert sorted(numbers) == list(range(300))
    assert {one.resource["service.name"] for one in received} == {"shop"}
    assert len({span.span_id for span in rig.buffer.spans}) == 1_500
    assert set(rig.outcomes(face)) == {"accepted"}


@pytest.mark.parametrize("face", ["http", "grpc"])
def test_one_by_one(rig: Rig, face: str) -> None:
    with provider(SimpleSpanProcessor(exporter_to(rig, face, None))) as made:
        trade(made, 5)
    assert len(rig.buffer.spans) == 25


@pytest.mark.parametrize("face", ["http", "grpc"])
def test_what_was_refused_is_sent_again(rig: Rig, face: str) -> None:
    rig.buffer.refuse_next = 1
    with provider(BatchSpanProcessor(exporter_to(rig, face, None))) as made:
        trade(made, 4)
        made.force_flush()
    assert rig.buffer.refuse_next == 0
    assert len(rig.buffer.spans) == 20
    assert rig.outcomes(face) == {"refused": 1, "accepted": 1}


@pytest.mark.parametrize("face", ["http", "grpc"])
def test_tokens_as_the_sdk_sends_them(make_rig: Callable[..., Rig], face: str) -> None:
    rig = make_rig(tokens=(f"{TOKEN}:shop",))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with provider(SimpleSpanProcessor(exporter_to(rig, face, None, headers=headers))) as made:
        trade(made, 1)
    assert {span.project for span in rig.buffer.spans} == {"shop"}
    assert len(rig.buffer.spans) == 5


def test_nothing_but_the_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{rig.http.address}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-afterglow-project=bank")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with provider(SimpleSpanProcessor(HttpExporter())) as made:
        trade(made, 1)
    assert {span.project for span in rig.buffer.spans} == {"bank"}
