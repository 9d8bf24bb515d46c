"""Segments by gRPC, to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from afterglow.config import SendConfig
from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.otlp.answer import export_answer
from afterglow.sink.otlp import OtlpSink
from tests.sink.payloads import buffered, part_with


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers what `says` holds: bytes, or a status with details; nothing: success."""

    def __init__(self) -> None:
        self.got: list[ExportTraceServiceRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.says: list[Any] = []
        self.server = grpc.server(ThreadPoolExecutor(2), handlers=(self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details: Any) -> Any:
        assert details.method.endswith("TraceService/Export")
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, body: bytes, context: Any) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        says = self.says.pop(0) if self.says else b""
        if isinstance(says, bytes):
            self.got.append(ExportTraceServiceRequest.FromString(body))
            return says
        code, status = says
        if status is not None:
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
        context.abort(code, "told so")
        raise AssertionError


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.stop(None).wait()


@pytest.fixture
def sink(server: Server) -> Iterator[OtlpSink]:
    sink = OtlpSink(
        SendConfig(url=f"grpc://127.0.0.1:{server.port}", headers="x-token=abc", timeout_s=5.0),
        report=lambda _: None,
    )
    yield sink
    sink.close()
    sink.close()


def page(*names: str) -> Any:
    return part_with([buffered(at + 1, at, name=name) for at, name in enumerate(names)])


def retry_info(seconds: int) -> Status:
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=500_000_000)))
    return Status(code=14, message="later", details=[detail])


def test_spans_arrive(server: Server, sink: OtlpSink) -> None:
    sink.write([page("a", "b")])
    (request,) = server.got
    (found,) = request.resource_spans
    assert [span.name for span in found.scope_spans[0].spans] == ["a", "b"]
    assert server.metadata[0]["x-token"] == "abc"


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "UNAVAILABLE", "DATA_LOSS"]
)
def test_later(server: Server, sink: OtlpSink, code: str) -> None:
    server.says = [(grpc.StatusCode[code], retry_info(7))]
    with pytest.raises(SinkUnavailableError, match=f"{code}: told so") as raised:
        sink.write([page("a")])
    assert raised.value.retry_after_s == 7.5
    sink.write([page("a")])
    assert len(server.got) == 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL", "UNKNOWN"])
def test_never(server: Server, sink: OtlpSink, code: str) -> None:
    server.says = [(grpc.StatusCode[code], None)]
    with pytest.raises(SinkError) as raised:
        sink.write([page("a")])
    assert not isinstance(raised.value, SinkUnavailableError)


def test_exhausted_is_later_or_too_large(server: Server, sink: OtlpSink) -> None:
    server.says = [(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(1))]
    with pytest.raises(SinkUnavailableError):
        sink.write([page("a", "b")])
    server.says = [(grpc.StatusCode.RESOURCE_EXHAUSTED, None)]
    sink.write([page("a", "b")])
    assert [len(request.resource_spans) for request in server.got] == [1, 1]


def test_partial_success(server: Server, sink: OtlpSink) -> None:
    server.says = [export_answer(1, "no", json=False)]
    sink.write([page("a", "b")])
    assert sink.rejected_spans == 1


def test_nobody_there_and_there_again(server: Server, sink: OtlpSink) -> None:
    sink.write([page("a")])
    server.server.stop(None).wait()
    with pytest.raises(SinkUnavailableError, match="UNAVAILABLE"):
        sink.write([page("b")])
