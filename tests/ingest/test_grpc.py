"""OTLP/gRPC: what is answered to what, by a real client over a real socket."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from afterglow.config import IngestConfig
from afterglow.errors import SettingError
from afterglow.ingest.access import Access
from afterglow.ingest.grpc_face import GrpcFace
from afterglow.ingest.grpc_service import encoding_of

from .conftest import PATIENCE_S, Rig, request_of

TOKEN = "shop-token-0123456789"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Code = grpc.StatusCode


@contextmanager
def client(rig: Rig, compression: Any = None, **options: int) -> Iterator[Any]:
    """A callable that exports bytes, as every OTLP client does: one message there, one back."""
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(
        str(rig.grpc.address), options=named, compression=compression
    ) as channel:
        yield channel.unary_unary(EXPORT)


def failure(call: Any, body: bytes, **keywords: Any) -> Any:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        call(body, timeout=PATIENCE_S, **keywords)
    return raised.value


def retry_s(error: Any) -> float:
    """What RetryInfo in the details says."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = Status.FromString(details)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    return float(info.retry_delay.ToTimedelta().total_seconds())


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_each_compression(rig: Rig, compression: Any) -> None:
    body = request_of(300)
    with client(rig, compression) as export:
        assert ExportTraceServiceResponse.FromString(export(body)) == ExportTraceServiceResponse()
    assert len(rig.buffer.spans) == 300
    if compression is not grpc.Compression.NoCompression:
        assert rig.total("received_bytes") < len(body)
    assert rig.outcomes("grpc") == {"accepted": 1}


def test_no_request_looks_compressed() -> None:
    assert encoding_of(b"") == encoding_of(request_of()) == "identity"
    assert encoding_of(gzip.compress(request_of())) == "gzip"
    for level in range(10):
        assert encoding_of(zlib.compress(request_of(), level)) == "deflate"


def test_partial_success(rig: Rig) -> None:
    request = ExportTraceServiceRequest.FromString(request_of(3))
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b""
    with client(rig) as export:
        answer = ExportTraceServiceResponse.FromString(export(request.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message == "1 invalid_id"


def test_back_pressure_says_when_to_come_again(rig: Rig) -> None:
    rig.buffer.refuse_next, rig.buffer.fail_next = 1, 1
    with client(rig) as export:
        for why in ("the buffer failed", "the buffer is full"):
            error = failure(export, request_of())
            assert (error.code(), error.details()) == (Code.UNAVAILABLE, why)
            assert retry_s(error) == 1.0
        export(request_of())
    assert rig.outcomes("grpc") == {"refused": 2, "accepted": 1}


def test_what_is_no_otlp(rig: Rig) -> None:
    with client(rig) as export:
        assert failure(export, b"\xff\xff").code() is Code.INVALID_ARGUMENT
        truncated = gzip.compress(request_of())[:-4]
        assert failure(export, truncated).code() is Code.INVALID_ARGUMENT
    assert rig.outcomes("grpc") == {"malformed": 2}


def test_other_methods(rig: Rig) -> None:
    with grpc.insecure_channel(str(rig.grpc.address)) as channel:
        metrics = channel.unary_unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        )
        assert failure(metrics, b"").code() is Code.UNIMPLEMENTED


def test_more_spans_than_there_may_be(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(otlp={"max_spans": 2})
    with client(rig) as export:
        assert failure(export, request_of(3)).code() is Code.RESOURCE_EXHAUSTED
        export(request_of(2))


def test_messages_that_are_too_large(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(otlp={"max_body_bytes": 10_000})
    with client(rig) as export:
        large = request_of(name="x" * 20_000)
        assert failure(export, large).code() is Code.RESOURCE_EXHAUSTED
        export(request_of(name="x" * 5_000))
    assert len(rig.buffer.spans) == 1


def test_who_may_and_for_whom(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(tokens=(f"{TOKEN}:shop",))
    good = ("authorization", f"Bearer {TOKEN}")
    with client(rig) as export:
        assert failure(export, request_of()).code() is Code.UNAUTHENTICATED
        wrong = (("authorization", "Bearer wrong"),)
        assert failure(export, request_of(), metadata=wrong).code() is Code.UNAUTHENTICATED
        other = (good, ("x-afterglow-project", "bank"))
        assert failure(export, request_of(), metadata=other).code() is Code.PERMISSION_DENIED
        assert rig.buffer.begun == 0
        export(request_of(), metadata=(good,))
    assert rig.buffer.spans[0].project == "shop"
    assert rig.outcomes("grpc") == {"unauthorized": 3, "accepted": 1}


def test_the_project_by_the_header(rig: Rig) -> None:
    with client(rig) as export:
        bad = (("x-afterglow-project", "a/b"),)
        assert failure(export, request_of(), metadata=bad).code() is Code.INVALID_ARGUMENT
        export(request_of(), metadata=(("x-afterglow-project", "bank"),))
    assert rig.buffer.spans[0].project == "bank"


BOMB = """
import resource, sys
from tests.ingest.conftest import Rig
rig = Rig(None, {"max_decompressed_bytes": 4 << 20}, {"threads": 2})
address = rig.grpc.address
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(address, flush=True)
sys.stdin.readline()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown, rig.outcomes("grpc").get("too_large"), flush=True)
rig.close()
"""


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_bombs_are_not_unpacked(compression: Any) -> None:
    """A message of 128 KiB that would be 128 MiB, three times: what it takes is bounded."""
    with subprocess.Popen(
        [sys.executable, "-c", BOMB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        address = server.stdout.readline().strip()
        with grpc.insecure_channel(address, compression=compression) as channel:
            export = channel.unary_unary(EXPORT)
            for _ in range(3):
                assert failure(export, bytes(1 << 27)).code() is Code.RESOURCE_EXHAUSTED
        server.stdin.write("done\n")
        server.stdin.flush()
        grown_kib, n_too_large = server.stdout.readline().split()
    assert n_too_large == "3", "gRPC has unpacked it"
    assert int(grown_kib) < 64 << 10


# --- slow, and many


def test_a_message_that_does_not_come(make_rig: Callable[..., Rig]) -> None:
    """A call that sends headers and no message holds a thread, so it is given up."""
    rig = make_rig(body_timeout_s=0.05, max_calls=2)
    stop = threading.Event()

    def nothing() -> Iterator[bytes]:
        if not stop.wait(PATIENCE_S):
            yield request_of()  # nobody gave it up

    with grpc.insecure_channel(str(rig.grpc.address)) as channel:
        slow = channel.stream_unary(EXPORT)
        calls = [slow.future(nothing()) for _ in range(2)]
        assert {call.code() for call in calls} == {Code.CANCELLED}
        stop.set()
    with client(rig) as export:
        export(request_of())
    assert rig.outcomes("grpc") == {"timeout": 2, "accepted": 1}


def test_a_call_without_a_message(rig: Rig) -> None:
    with grpc.insecure_channel(str(rig.grpc.address)) as channel:
        none = channel.stream_unary(EXPORT)
        assert failure(none, iter(())).code() is Code.CANCELLED  # type: ignore[arg-type]


def test_more_calls_than_there_may_be(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_calls=2, threads=1)
    rig.buffer.open.clear()
    with client(rig) as export, ThreadPoolExecutor(2) as senders:
        held = [senders.submit(export, request_of(first=i)) for i in (1, 2)]
        while rig.grpc.calls._n_calls < 2:
            pass
        with client(rig, use_local_subchannel_pool=1) as another:
            error = failure(another, request_of(first=3))
        assert (error.code(), retry_s(error)) == (Code.UNAVAILABLE, 1.0)
        rig.buffer.open.set()
        for one in held:
            one.result()
    assert len(rig.buffer.spans) == 2
    assert rig.outcomes("grpc") == {"refused": 1, "accepted": 2}


def test_messages_that_wait_are_bounded_together(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_waiting_bytes=1 << 20, threads=1)
    rig.buffer.open.clear()
    large = request_of(name="x" * 700_000)
    with client(rig) as export, ThreadPoolExecutor(1) as senders:
        held = senders.submit(export, large)
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        error = failure(export, request_of(first=2, name="x" * 700_000))
        assert (error.code(), retry_s(error)) == (Code.UNAVAILABLE, 1.0)
        rig.buffer.open.set()
        held.result()
    assert rig.grpc.calls._waiting_bytes == 0


def test_connections_are_bounded(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_connections=3)
    address = rig.grpc.address
    held = [socket.create_connection(address, PATIENCE_S) for _ in range(8)]
    answered = 0
    for one in held:
        with suppress(ConnectionError):
            answered += bool(one.recv(9))
    assert answered == 3
    for one in held:
        one.close()
    with client(rig) as export:
        export(request_of(), wait_for_ready=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", bytes(1_000), b"\x16\x03\x01\x00"])
def test_what_is_no_grpc(make_rig: Callable[..., Rig], rubbish: bytes) -> None:
    rig = make_rig(header_timeout_s=0.3)
    with socket.create_connection(rig.grpc.address, PATIENCE_S) as peer:
        peer.sendall(rubbish)
        with suppress(ConnectionError):
            while peer.recv(1_000):
                pass
    with client(rig) as export:
        export(request_of())


# --- start and stop


def test_it_stops_gracefully(rig: Rig) -> None:
    face = rig.grpc
    rig.buffer.open.clear()
    with client(rig) as export, ThreadPoolExecutor(2) as others:
        in_hand = others.submit(export, request_of())
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        stopping = others.submit(face.stop, PATIENCE_S)
        while face.calls.closed is None:
            pass
        assert failure(export, request_of(first=9)).code() is Code.UNAVAILABLE
        assert not stopping.done()
        rig.buffer.open.set()
        in_hand.result()
        stopping.result()
    assert len(rig.buffer.spans) == 1


def test_it_stops_within_its_time_whatever_is_in_hand(rig: Rig) -> None:
    face = rig.grpc
    rig.buffer.open.clear()
    with client(rig) as export, ThreadPoolExecutor(1) as others:
        in_hand = others.submit(failure, export, request_of())
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        face.stop(0.05)
        assert in_hand.result().code() in (Code.CANCELLED, Code.UNAVAILABLE)
        rig.buffer.open.set()


def test_a_closed_gate(rig: Rig) -> None:
    rig.grpc  # noqa: B018  started
    rig.intake.close_gate("the store is full")
    with client(rig) as export:
        error = failure(export, request_of())
    assert (error.code(), error.details()) == (Code.UNAVAILABLE, "the store is full")
    assert retry_s(error) == 1.0


def test_an_address_in_use_is_one_line(rig: Rig) -> None:
    config = IngestConfig(grpc=str(rig.grpc.address))
    second = GrpcFace(rig.intake, Access(config), config)
    with pytest.raises(SettingError, match=r"cannot listen at 127\.0\.0\.1:\d+: Address already"):
        second.start()
    second.stop(1.0)


def test_beyond_this_machine_it_takes_tokens(rig: Rig) -> None:
    config = IngestConfig(grpc="0.0.0.0:0")
    with pytest.raises(SettingError, match="open to other machines"):
        GrpcFace(rig.intake, Access(config), config)
