"""A real OTLP/HTTP server that does what it is told: answers, is away, slow, rude."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import msgspec
from backports import zstd
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Backend", "Got"]


class Got(NamedTuple):
    """A request that came; `peer` tells connections apart."""

    path: str
    headers: dict[str, str]
    body: bytes
    peer: int

    def names(self) -> list[str]:
        """The names of the spans in it."""
        if self.headers["content-type"] == "application/json":
            document = msgspec.json.decode(self.body)
            return [
                span["name"]
                for resource in document["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
        return [span.name for span in self.spans()]

    def spans(self) -> list[object]:
        request = ExportTraceServiceRequest.FromString(self.body)
        return [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


Answers = Callable[[BaseHTTPRequestHandler, Got], None]


class Backend:
    """`answers` are used up one a request; without any, a request is kept and answered by 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.seen = 0
        self.answers: list[Answers] = []
        self.port = 0
        self.open: list[socket.socket] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """Of all spans that were taken."""
        return [name for got in self.got for name in got.names()]

    def start(self) -> Backend:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                backend.open.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                coding = self.headers.get("content-encoding")
                if coding == "gzip":
                    body = gzip.decompress(body)
                elif coding == "zstd":
                    body = zstd.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Got(self.path, headers, body, self.client_address[1])
                backend.seen += 1
                if backend.answers:
                    backend.answers.pop(0)(self, got)
                else:
                    backend.got.append(got)
                    answer(200)(self, got)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None: ...

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.open.clear()


def answer(status: int, body: bytes = b"", **headers: str) -> Answers:
    """An answer; underscores of header names are dashes."""

    def send(handler: BaseHTTPRequestHandler, got: Got) -> None:
        handler.send_response(status)
        for name, value in {"content_type": "application/x-protobuf", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def raw(data: bytes) -> Answers:
    """Bytes that need be no HTTP; then the connection is closed."""

    def send(handler: BaseHTTPRequestHandler, got: Got) -> None:
        handler.close_connection = True
        handler.wfile.write(data)

    return send


def reset(handler: BaseHTTPRequestHandler, got: Got) -> None:
    """Cut the connection without an answer."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def drip(handler: BaseHTTPRequestHandler, got: Got) -> None:
    """An answer that goes on for ever, a byte at a time."""
    never = threading.Event()
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
    for _ in range(600):
        try:
            handler.wfile.write(b"y")
        except OSError:
            return
        never.wait(0.05)
