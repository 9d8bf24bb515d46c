"""Any bytes to OTLP/HTTP, in this process: never a 500, never a span that is not accounted for."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from afterglow.config import IngestConfig
from afterglow.ingest.access import Access
from afterglow.ingest.http_app import HttpApp
from afterglow.otlp.body import zstd

from .conftest import Rig, request_of

PROTOBUF = b"application/x-protobuf"
COMPRESS = {
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstd.compress,
}
GOOD = request_of(3)


class InProcess:
    """The ASGI program without sockets."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        config = IngestConfig(body_timeout_s=5.0)
        self.pools = [ThreadPoolExecutor(2), ThreadPoolExecutor(1)]
        self.app = HttpApp(
            rig.intake,
            Access(config),
            config,
            pool=self.pools[0],
            routes_pool=self.pools[1],
            report=rig.lines.append,
        )

    def post(
        self, pieces: list[bytes], headers: list[tuple[bytes, bytes]], *, ends: bool = True
    ) -> tuple[int, bytes]:
        """Status and body; (0, b"") where there was no answer. `ends`: else the peer goes away."""
        sent: list[MutableMapping[str, Any]] = []
        coming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if ends:
            coming.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> MutableMapping[str, Any]:
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/traces",
            "headers": [*headers, (b"transfer-encoding", b"chunked")],
        }
        asyncio.run(self.app(scope, receive, send))
        assert self.app._waiting.held_bytes == 0 and not self.app.in_hand
        if not sent:
            return 0, b""
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
        return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def app(rig: Rig) -> Iterator[InProcess]:
    made = InProcess(rig)
    yield made
    for pool in made.pools:
        pool.shutdown()
    assert rig.lines == []


FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(
    st.lists(st.binary(max_size=200), max_size=5),
    st.sampled_from([*COMPRESS, b"br", b"", b"gzip, zstd", b"\xff"]),
    st.sampled_from([PROTOBUF, b"application/json", b"text/plain", b"", b"\xff", b";"]),
    st.booleans(),
)
def test_any_bytes(
    app: InProcess, pieces: list[bytes], encoding: bytes, content_type: bytes, ends: bool
) -> None:
    headers = [(b"content-type", content_type), (b"content-encoding", encoding)]
    status, body = app.post(pieces, headers, ends=ends)
    assert status in ({200, 400, 415} if ends else {0, 415})
    if status == 400 and content_type == PROTOBUF:
        assert Status.FromString(body).message


@FUZZ
@given(st.data(), st.sampled_from(list(COMPRESS)))
def test_a_good_body_that_was_damaged(app: InProcess, data: st.DataObject, encoding: bytes) -> None:
    body = bytearray(COMPRESS[encoding](GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(body) - 1))
        body[where] ^= data.draw(st.integers(1, 255))
    status, said = app.post(
        [bytes(body)], [(b"content-type", PROTOBUF), (b"content-encoding", encoding)]
    )
    assert status in (200, 400, 413)
    if status == 200:
        ExportTraceServiceResponse.FromString(said)


@FUZZ
@given(st.data(), st.sampled_from(list(COMPRESS)))
def test_a_good_body_that_was_cut(app: InProcess, data: st.DataObject, encoding: bytes) -> None:
    """Where anything is missing nothing is taken; a cut between messages cannot be told."""
    whole = COMPRESS[encoding](GOOD)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    headers = [(b"content-type", PROTOBUF), (b"content-encoding", encoding)]
    assert app.post([cut], headers)[0] == 400
    assert app.rig.buffer.begun == 0


@FUZZ
@given(st.lists(st.integers(0, len(GOOD)), max_size=6))
def test_a_good_body_in_any_pieces(app: InProcess, cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(GOOD)]
    pieces = [GOOD[a:b] for a, b in pairwise(at)]
    before = len(app.rig.buffer.spans)
    assert app.post(pieces, [(b"content-type", PROTOBUF)])[0] == 200
    assert len(app.rig.buffer.spans) == before + 3


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"content-length",
                    b"content-type",
                    b"content-encoding",
                    b"authorization",
                    b"x-afterglow-project",
                    b"expect",
                ]
            ),
            st.binary(max_size=40),
        ),
        max_size=6,
    )
)
def test_any_headers(app: InProcess, headers: list[tuple[bytes, bytes]]) -> None:
    status, _ = app.post([GOOD], headers)
    assert status in (200, 400, 413, 415)
