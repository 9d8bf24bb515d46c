"""The variables: what they say counts, and what cannot be used is left out with one line."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from afterglow.config import RecordConfig, WriteConfig, load
from afterglow.errors import SettingError
from afterglow.otel import TracerProvider, exporters
from afterglow.otel.distro import provider_from_environment
from afterglow.testing import ListSink
from tests.otel.conftest import Provided

Make = Callable[..., Provided]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("afterglow")]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "traces.db"
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(path))
    return path


def test_the_batch_processors_delay_is_in_milliseconds() -> None:
    write = load(WriteConfig, {}, {"OTEL_BSP_SCHEDULE_DELAY": "1500"})
    assert write.flush_interval_s == 1.5
    both = {"OTEL_BSP_SCHEDULE_DELAY": "1500", "AFTERGLOW_FLUSH_INTERVAL_S": "0.25"}
    assert load(WriteConfig, {}, both).flush_interval_s == 0.25


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
    ],
)
def test_a_bad_value_is_left_out(
    variable: str, text: str, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afterglow.config.setting._warned", set())
    assert load(WriteConfig, {}, {variable: text}) == WriteConfig()
    load(WriteConfig, {}, {variable: text})
    (line,) = lines()  # once, however many tracers there are
    assert line.startswith(variable) and line.endswith("it is left out")


def test_the_next_variable_counts_where_the_first_is_bad() -> None:
    environment = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x", "OTEL_ATTRIBUTE_COUNT_LIMIT": "7"}
    assert load(RecordConfig, {}, environment).max_attributes == 7


def test_our_own_variables_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_MAX_QUEUE_SIZE", "many")
    with pytest.raises(SettingError, match="AFTERGLOW_MAX_QUEUE_SIZE"):
        TracerProvider(database=ListSink())  # here, not when the first tracer is asked for


def test_bad_limits_are_left_out_and_good_ones_count(
    monkeypatch: pytest.MonkeyPatch, make_provided: Make, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "-1")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    provided = make_provided()
    with provided.tracer.start_as_current_span("s", attributes={"a": 1, "b": 2}) as span:
        span.add_event("e")
    (stored,) = provided.stored()
    assert (stored.attributes, len(stored.events)) == ({"b": 2}, 1)
    assert len(lines()) == 1 and "OTEL_SPAN_EVENT_COUNT_LIMIT" in lines()[0]


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SDK_DISABLED", " True"), ("AFTERGLOW_ENABLED", "false")]
)
def test_off(monkeypatch: pytest.MonkeyPatch, database: Path, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    provider: Any = provider_from_environment()
    with provider.get_tracer("t").start_as_current_span("s") as span:
        assert not span.is_recording()
    provider.shutdown()
    assert list(database.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("sampler", "argument", "recorded"),
    [
        ("always_off", "", 0),
        ("traceidratio", "0", 0),
        ("parentbased_traceidratio", "1.0", 1),
        ("sometimes", "", 1),
        ("traceidratio", "lots", 1),
    ],
)
def test_samplers(
    monkeypatch: pytest.MonkeyPatch, make_provided: Make, sampler: str, argument: str, recorded: int
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    provided = make_provided()
    provided.tracer.start_span("s").end()
    assert len(provided.stored()) == recorded


def test_exporters_that_are_not_there_are_said(
    monkeypatch: pytest.MonkeyPatch, database: Path, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none, afterglow,otlp,zipkin")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    found = exporters._entry_point  # as on a machine without the gRPC exporter
    monkeypatch.setattr(
        exporters, "_entry_point", lambda name: None if name == "otlp_proto_grpc" else found(name)
    )
    provider: Any = provider_from_environment()
    provider.shutdown()
    assert lines() == [
        "OTEL_TRACES_EXPORTER=otlp: there is no such exporter here: "
        "pip install opentelemetry-exporter-otlp-proto-grpc",
        "OTEL_TRACES_EXPORTER=zipkin: there is no such exporter here: "
        "pip install opentelemetry-exporter-zipkin",
    ]


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP, and keeps the names of the spans and the headers."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.keys: list[str | None] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.names.extend(span.name for span in scope.spans)
                collector.keys.append(self.headers.get("x-key"))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                return None

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_otlp_beside_the_file(
    monkeypatch: pytest.MonkeyPatch, database: Path, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    provider: Any = provider_from_environment()
    with provider.get_tracer("t").start_as_current_span("outer"):
        provider.get_tracer("t").start_span("inner").end()
    assert provider.force_flush()
    provider.shutdown()
    assert (sorted(collector.names), collector.keys[0]) == (["inner", "outer"], "secret")
    assert provider.ledger()["written"] == 2


def test_no_recording_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(tmp_path / "nowhere" / "x.db"))
    provider = provider_from_environment()
    with provider.get_tracer("t").start_as_current_span("s") as span:
        assert not span.is_recording()
    (line,) = lines()
    assert "nowhere is no directory" in line and "runs without spans" in line


def test_the_resource_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    from afterglow.otel.resource import _Resource

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b%20c, service.name=x ,nothing")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    attributes = _Resource.create({"mine": 1}).attributes
    assert (attributes["a"], attributes["service.name"], attributes["mine"]) == ("b c", "shop", 1)
    assert "nothing" not in attributes
