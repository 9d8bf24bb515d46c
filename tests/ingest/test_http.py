"""OTLP/HTTP: what is answered to what."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from afterglow.config import IngestConfig
from afterglow.errors import SettingError
from afterglow.ingest.access import Access
from afterglow.ingest.http_face import HttpFace
from afterglow.otlp.body import zstd

from .conftest import PATIENCE_S, Rig, request_of

TOKEN = "shop-token-0123456789"
JSON_BODY = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",'
    b'"spanId":"0102030405060708","name":"work","kind":1,"startTimeUnixNano":"1",'
    b'"endTimeUnixNano":"2"}]}]}]}'
)


def bare_deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("zstd", zstd.compress),
    ],
)
def test_protobuf_in_each_encoding(
    rig: Rig, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    status, headers, body = rig.send(compress(request_of(3)), content_encoding=encoding)
    assert (status, headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(body) == ExportTraceServiceResponse()
    assert len(rig.buffer.spans) == 3
    assert rig.total("received_bytes") == len(compress(request_of(3)))


def test_json(rig: Rig) -> None:
    status, headers, body = rig.call(body=JSON_BODY, content_type="application/json; charset=utf-8")
    assert (status, headers["content-type"], body) == (200, "application/json", b"{}")
    (span,) = rig.buffer.spans
    assert (span.project, span.span_id) == ("default", bytes(range(1, 9)))


def test_partial_success_in_both_languages(rig: Rig) -> None:
    request = ExportTraceServiceRequest.FromString(request_of(3))
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b""
    _, _, body = rig.send(request.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(body).partial_success
    assert (partial.rejected_spans, partial.error_message) == (1, "1 invalid_id")
    bad = JSON_BODY.replace(b"0102030405060708090a0b0c0d0e0f10", b"00" * 16)
    status, _, body = rig.call(body=bad, content_type="application/json")
    assert status == 200
    assert msgspec.json.decode(body) == {
        "partialSuccess": {"rejectedSpans": "1", "errorMessage": "1 invalid_id"}
    }
    assert rig.outcomes() == {"partial": 2}


def test_back_pressure(rig: Rig) -> None:
    rig.buffer.refuse_next = 1
    status, headers, body = rig.send(request_of(2))
    assert (status, headers["retry-after"]) == (503, "1")
    assert Status.FromString(body).message == "the buffer is full"
    assert rig.send(request_of(2))[0] == 200


def test_a_buffer_that_fails_is_back_pressure_too(rig: Rig) -> None:
    rig.buffer.fail_next = 1
    assert rig.send(request_of(2))[0] == 503
    assert rig.send(request_of(2))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "says"),
    [
        ("POST", "/v1/traces", {}, 415, "content-type"),
        ("POST", "/v1/traces", {"content_type": "text/plain"}, 415, "content-type"),
        (
            "POST",
            "/v1/traces",
            {"content_type": "application/json", "content_encoding": "br"},
            415,
            "gzip, deflate, zstd",
        ),
        (
            "POST",
            "/v1/traces",
            {"content_type": "application/json", "content_encoding": "gzip, gzip"},
            415,
            "content-encoding",
        ),
        ("GET", "/v1/traces", {}, 405, "POST"),
        ("PUT", "/v1/traces", {"content_type": "application/json"}, 405, "POST"),
        ("POST", "/v1/metrics", {"content_type": "application/json"}, 404, "takes no metrics"),
        ("POST", "/", {"content_type": "application/json"}, 404, "/v1/traces"),
        ("GET", "/v1/traces/", {}, 404, "/v1/traces"),
        (
            "POST",
            "/v1/traces",
            {"content_type": "application/json", "x_afterglow_project": "../x"},
            400,
            "x-afterglow-project",
        ),
    ],
)
def test_what_is_no_request_of_ours(
    rig: Rig, method: str, path: str, headers: dict[str, str], status: int, says: str
) -> None:
    got, named, body = rig.call(method, path, b"{}", **headers)
    assert (got, named["content-type"]) == (status, "application/json")
    assert says in msgspec.json.decode(body)["message"]
    assert rig.buffer.begun == 0


@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
def test_errors_speak_the_language_of_the_request(rig: Rig, content_type: str) -> None:
    status, headers, body = rig.call(body=b"\xff\xff{", content_type=content_type)
    assert (status, headers["content-type"]) == (400, content_type)
    if content_type == "application/json":
        assert msgspec.json.decode(body)["code"] == 3
    else:
        assert Status.FromString(body).code == 3
    assert rig.outcomes() == {"malformed": 1}


def test_bodies_that_are_too_large(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(otlp={"max_body_bytes": 2_000, "max_decompressed_bytes": 50_000})
    large = request_of(1, name="x" * 3_000)
    assert rig.send(large)[0] == 413
    assert rig.send(gzip.compress(large), content_encoding="gzip")[0] == 200
    bomb = gzip.compress(request_of(1, name="x" * 1_000_000))
    assert len(bomb) < 2_000
    status, _, body = rig.send(bomb, content_encoding="gzip")
    assert status == 413 and "50,000" in Status.FromString(body).message
    assert rig.outcomes() == {"accepted": 1, "too_large": 2}


@pytest.mark.parametrize(
    "broken", [b"", b"no gzip", gzip.compress(request_of())[:-5], gzip.compress(request_of())[:5]]
)
def test_compressed_bodies_that_are_not_whole(rig: Rig, broken: bytes) -> None:
    # Nothing at all is no gzip, but an empty body: nothing was lost.
    status, _, _ = rig.send(broken, content_encoding="gzip")
    assert status == (400 if broken else 200)
    assert rig.buffer.begun == 0


# --- who, and for whom


def test_a_token_is_asked_for_and_says_the_project(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(tokens=(f"{TOKEN}:shop",))
    status, headers, _ = rig.send(request_of())
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert rig.send(request_of(), authorization="Bearer nonsense")[0] == 401
    good = {"authorization": f"Bearer {TOKEN}"}
    assert rig.send(request_of(), **good, x_afterglow_project="bank")[0] == 403
    assert rig.buffer.begun == 0
    assert rig.send(request_of(), **good)[0] == 200
    assert rig.buffer.spans[0].project == "shop"
    assert rig.outcomes() == {"unauthorized": 3, "accepted": 1}


def test_two_authorizations_are_none(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(tokens=(TOKEN,))
    with rig.connect() as peer:
        line = f"authorization: Bearer {TOKEN}\r\n"
        peer.sendall(
            f"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 0\r\n"
            f"{line}{line}\r\n".encode()
        )
        assert peer.recv(100).startswith(b"HTTP/1.1 401 ")


def test_the_header_says_the_project_where_there_are_no_tokens(rig: Rig) -> None:
    assert rig.send(request_of(), x_afterglow_project="bank")[0] == 200
    assert rig.buffer.spans[0].project == "bank"


# --- what is mounted beside it


def test_mounted_routes(make_rig: Callable[..., Rig]) -> None:
    threads: list[str] = []

    def ready() -> tuple[int, str, bytes]:
        threads.append(threading.current_thread().name)
        return 503, "text/plain", b"not yet\n"

    rig = make_rig(routes={"/readyz": ready}, tokens=(TOKEN,))
    status, headers, body = rig.call("GET", "/readyz")
    assert (status, headers["content-type"], body) == (503, "text/plain", b"not yet\n")
    assert rig.call("HEAD", "/readyz")[2] == b""
    assert rig.call("POST", "/readyz", b"")[0] == 405
    assert all("routes" in name for name in threads)


def test_a_mounted_route_that_fails(make_rig: Callable[..., Rig]) -> None:
    def broken() -> tuple[int, str, bytes]:
        raise RuntimeError("no books")

    rig = make_rig(routes={"/metrics": broken})
    assert rig.call("GET", "/metrics")[0] == 500
    assert rig.lines == ["OTLP/HTTP failed: RuntimeError: no books"]
    assert rig.send(request_of())[0] == 200


def test_metrics_take_the_token_beyond_this_machine(make_rig: Callable[..., Rig]) -> None:
    routes = {
        "/metrics": lambda: (200, "text/plain", b"a 1\n"),
        "/healthz": lambda: (200, "text/plain", b"ok\n"),
    }
    rig = make_rig(routes=routes, tokens=(f"{TOKEN}:shop",), http="0.0.0.0:0")
    assert rig.call("GET", "/healthz")[0] == 200
    assert rig.call("GET", "/metrics")[0] == 401
    assert rig.call("GET", "/metrics", authorization=f"Bearer {TOKEN}")[0] == 200
    private = make_rig(routes=routes, tokens=(f"{TOKEN}:shop",))
    assert private.call("GET", "/metrics")[0] == 200


def test_health_is_answered_while_the_buffer_waits(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(routes={"/healthz": lambda: (200, "text/plain", b"ok\n")}, threads=2)
    rig.http  # noqa: B018  started
    rig.buffer.open.clear()
    with ThreadPoolExecutor(5) as senders:
        waiting = [senders.submit(rig.send, request_of(first=i)) for i in range(1, 6)]
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        assert rig.call("GET", "/healthz")[0] == 200
        assert not any(one.done() for one in waiting)
        rig.buffer.open.set()
        assert [one.result()[0] for one in waiting] == [200] * 5


# --- start and stop


def test_it_stops_gracefully(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    face = rig.http
    rig.buffer.open.clear()
    idle = rig.connect()
    with idle, ThreadPoolExecutor(2) as others:
        in_hand = others.submit(rig.send, request_of())
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        stopping = others.submit(face.stop, PATIENCE_S)
        while face._app.closed is None:
            pass
        status, headers, _ = rig.send(request_of(first=5))
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert not stopping.done()
        rig.buffer.open.set()
        assert in_hand.result()[0] == 200
        stopping.result()
        assert idle.recv(1) == b""
    assert rig.outcomes() == {"accepted": 1, "refused": 1}


def test_it_stops_within_its_time_whatever_is_in_hand(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(threads=1)
    face = rig.http
    rig.buffer.open.clear()
    with ThreadPoolExecutor(2) as others, rig.connect() as slow:
        in_hand = others.submit(rig.send, request_of())
        assert rig.buffer.adding.acquire(timeout=PATIENCE_S)
        waits = others.submit(rig.send, request_of(first=2))
        slow.sendall(
            b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\n"
            b"content-length: 9\r\n\r\n{"
        )
        while len(face._app.in_hand) < 3:
            pass
        face.stop(0.05)
        # Their senders repeat them; what the buffer makes of the first now is kept once.
        assert (in_hand.result()[0], waits.result()[0]) == (503, 503)
        assert slow.recv(20).startswith(b"HTTP/1.1 503 ")
        rig.buffer.open.set()
    face.stop(0.05)
    while len(rig.buffer.spans) < 1:
        pass
    assert rig.outcomes().get("refused") == 2


def test_an_address_in_use_is_one_line(rig: Rig) -> None:
    config = IngestConfig(http=str(rig.http.address))
    second = HttpFace(rig.intake, Access(config), config)
    with pytest.raises(SettingError, match=r"cannot listen at 127\.0\.0\.1:\d+: Address already"):
        second.start()
    second.stop(1.0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"http": "off"}, "nothing to listen at"),
        ({"http": "0.0.0.0:0"}, "open to other machines"),
        ({"http": "nowhere"}, "is no address"),
    ],
)
def test_what_cannot_be_started(rig: Rig, settings: dict[str, str], says: str) -> None:
    config = IngestConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=says):
        HttpFace(rig.intake, Access(config), config)


def test_a_host_that_is_not_here(rig: Rig) -> None:
    config = IngestConfig(http="192.0.2.1:0", allow_anonymous=True)
    face = HttpFace(rig.intake, Access(config), config)
    with pytest.raises(SettingError, match=r"cannot listen at 192\.0\.2\.1:0"):
        face.start()
    face.stop(1.0)


def test_ipv6(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(http="[::1]:0")
    assert rig.send(request_of())[0] == 200
    assert str(rig.http.address).startswith("[::1]:")
