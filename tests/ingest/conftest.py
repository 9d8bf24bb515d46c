"""Faces on free ports with a real buffer behind them; what they count is checked at the end."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from afterglow.buffer import MemoryBuffer
from afterglow.clock import SystemClock
from afterglow.config import IngestConfig, OtlpConfig
from afterglow.counts import Counts
from afterglow.ingest.access import Access
from afterglow.ingest.grpc_face import GrpcFace
from afterglow.ingest.http_app import Routes
from afterglow.ingest.http_face import HttpFace
from afterglow.ingest.intake import Intake
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, SegmentPart
from afterglow.otlp.request import OtlpRules

PATIENCE_S = 30.0
"""What is waited for at most; nothing that works takes nearly as long."""


def request_of(n_spans: int = 1, *, first: int = 1, name: str = "work") -> bytes:
    """An ExportTraceServiceRequest with so many spans, each a trace of its own."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    for number in range(first, first + n_spans):
        span = scope.spans.add(name=name, start_time_unix_nano=1, end_time_unix_nano=2)
        span.trace_id = number.to_bytes(16, "big")
        span.span_id = number.to_bytes(8, "big")
    done: bytes = request.SerializeToString()
    return done


class Gate:
    """A real buffer that can be made to refuse, to fail, or to wait."""

    def __init__(self) -> None:
        self.within = MemoryBuffer()
        self.refuse_next = 0
        self.fail_next = 0
        self.open = threading.Event()
        self.open.set()
        #: Calls of `add` that have begun.
        self.begun = 0
        self.adding = threading.Semaphore(0)
        self.spans: list[BufferedSpan] = []

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> AddResult:
        self.begun += 1
        self.adding.release()
        assert self.open.wait(PATIENCE_S)
        if self.fail_next:
            self.fail_next -= 1
            raise OSError(28, "No space left on device")
        if self.refuse_next:
            self.refuse_next -= 1
            return AddResult(
                accepted=0, refused=len(spans), reason="the buffer is full", retry_after_s=0.2
            )
        result = self.within.add(spans, now_ns)
        self.spans += spans
        return result

    def take_due(
        self, now_ns: int, *, owner: str, shards: Collection[int] | None = None,
        max_segments: int = 1_000, max_bytes: int = 32 << 20,
    ) -> Iterator[list[SegmentPart]]:  # fmt: skip
        return self.within.take_due(now_ns, owner=owner, shards=shards)

    def acknowledge(self, parts: Sequence[SegmentPart], *, dropped: Any = None) -> int:
        return self.within.acknowledge(parts, dropped=dropped)

    def release(self, parts: Sequence[SegmentPart]) -> None:
        self.within.release(parts)

    def ledger(self) -> BufferBooks:
        return self.within.ledger()

    def close(self) -> None:
        self.within.close()


class Rig:
    """A collector's front: faces, intake, buffer; closed at the end of the test."""

    def __init__(self, routes: Routes | None, otlp: dict[str, Any], settings: dict[str, Any]):
        self.config = IngestConfig(**{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", **settings})
        self.buffer = Gate()
        self.lines: list[str] = []
        self.shown: list[BufferedSpan] = []
        self.counts = Counts()
        self.intake = Intake(
            self.buffer,
            OtlpRules.of(OtlpConfig(**otlp)),
            self.counts,
            clock=SystemClock(),
            on_accepted=self.shown.extend,
            report=self.lines.append,
        )
        self._routes = routes
        self._faces: dict[str, HttpFace | GrpcFace] = {}

    @property
    def http(self) -> HttpFace:
        if "http" not in self._faces:
            face = HttpFace(
                self.intake,
                Access(self.config),
                self.config,
                routes=self._routes,
                report=self.lines.append,
            )
            self._faces["http"] = face
            face.start()
        face_made = self._faces["http"]
        assert isinstance(face_made, HttpFace)
        return face_made

    @property
    def grpc(self) -> GrpcFace:
        if "grpc" not in self._faces:
            face = GrpcFace(self.intake, Access(self.config), self.config, report=self.lines.append)
            self._faces["grpc"] = face
            face.start()
        face_made = self._faces["grpc"]
        assert isinstance(face_made, GrpcFace)
        return face_made

    def close(self) -> None:
        self.buffer.open.set()
        for face in self._faces.values():
            face.stop(PATIENCE_S)

    # --- what it counted

    def outcomes(self, face: str = "http") -> dict[str, int]:
        """Requests of a face, by outcome."""
        return {
            dict(labels)["outcome"]: n
            for (name, labels), n in self.counts.read().items()
            if name == "requests" and dict(labels)["face"] == face
        }

    def total(self, name: Any) -> int:
        return self.counts.total(name)

    # --- a plain client

    def call(
        self,
        method: str = "POST",
        path: str = "/v1/traces",
        body: bytes | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request over a connection of its own."""
        connection = http.client.HTTPConnection(
            self.http.address.host, self.http.address.port, timeout=PATIENCE_S
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def send(self, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """POST protobuf."""
        return self.call(body=body, **{"content_type": "application/x-protobuf", **headers})

    def connect(self) -> socket.socket:
        """A bare connection to the HTTP face."""
        address = self.http.address
        return socket.create_connection((address.host, address.port), timeout=PATIENCE_S)


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Rigs with settings. At the end each span that came is accounted for."""
    made: list[Rig] = []

    def make(
        routes: Routes | None = None, otlp: dict[str, Any] | None = None, **settings: Any
    ) -> Rig:
        rig = Rig(routes, otlp or {}, settings)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.close()
        total = rig.total
        assert total("received_spans") == (
            total("accepted_spans") + total("dropped_spans") + total("refused_spans")
        )
        assert total("accepted_spans") == rig.buffer.ledger().ingested - total("dropped_spans")
        assert rig.buffer.ledger().balanced


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
