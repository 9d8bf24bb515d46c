"""ASGI under uvicorn, and the turns that a real client can hardly make, by hand."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from afterglow.middleware import AsgiMiddleware
from afterglow.record.context import current
from tests.conftest import Recording

App = Callable[..., Awaitable[None]]


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def served(app: App, **options: Any) -> Iterator[int]:
    """The program under uvicorn in a thread; gives the port."""
    config = uvicorn.Config(
        app, port=0, log_level="critical", ws="websockets-sansio", lifespan="on", **options
    )
    server = _Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    assert server.up.wait(20)
    try:
        yield socket.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
        socket.close()


def asked(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_requests_under_uvicorn(recording: Recording) -> None:
    tracer = recording.tracer
    begun: list[str] = []

    async def order(request: Request) -> PlainTextResponse:
        with tracer.span("query"):
            await asyncio.sleep(0)
        return PlainTextResponse("tea")

    async def streamed(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"a", b"b"):
                with tracer.span(f"piece {piece.decode()}"):
                    yield piece

        return StreamingResponse(pieces())

    async def broken(request: Request) -> PlainTextResponse:
        raise ValueError("no tea")

    class Lifespan:
        async def __aenter__(self) -> None:
            begun.append("up")

        async def __aexit__(self, *_exc: object) -> None:
            begun.append("down")

    routes = [Route("/orders/{id}", order), Route("/streamed", streamed), Route("/broken", broken)]
    app = Starlette(routes=[Mount("/shop", routes=routes)], lifespan=lambda app: Lifespan())
    header = f"00-{7:032x}-{9:016x}-01"
    with served(AsgiMiddleware(app, tracer)) as port:
        assert asked(port, "/shop/orders/7?card=1", traceparent=header, cookie="no") == (
            200,
            b"tea",
        )
        assert asked(port, "/shop/streamed") == (200, b"ab")
        assert asked(port, "/shop/broken")[0] == 500
        assert asked(port, "/nowhere")[0] == 404
    assert begun == ["up", "down"]
    spans = recording.spans()
    assert len(spans) == 7
    requests = {span.attributes["url.path"]: span for span in spans if span.kind == "server"}
    first = requests["/shop/orders/7"]
    assert (first.trace_id, first.parent_span_id, first.status) == (7, 9, "unset")
    assert {
        k: v for k, v in first.attributes.items() if k not in ("client.port", "http.route")
    } == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/shop/orders/7",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    by_name = {span.name: span for span in spans}
    assert by_name["query"].parent_span_id == first.span_id
    second = requests["/shop/streamed"]
    assert by_name["piece a"].parent_span_id == by_name["piece b"].parent_span_id == second.span_id
    failed = requests["/shop/broken"]
    assert (failed.status, failed.attributes["error.type"]) == ("error", "ValueError")
    assert "exception" in [event.name for event in failed.events]
    assert requests["/nowhere"].status == "unset"
    assert requests["/nowhere"].attributes["http.response.status_code"] == 404


def test_a_websocket_under_uvicorn(recording: Recording) -> None:
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        with recording.tracer.span("echo"):
            await socket.send_text(await socket.receive_text())
        await socket.receive()  # the end, by the client

    async def refused(socket: WebSocket) -> None:
        await socket.close()

    app = Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/no", refused)])
    with served(AsgiMiddleware(app, recording.tracer)) as port:
        with connect(f"ws://127.0.0.1:{port}/echo") as socket:
            socket.send("tea")
            assert socket.recv() == "tea"
        with pytest.raises(Exception, match="403"), connect(f"ws://127.0.0.1:{port}/no"):
            pass
    spans = {s.attributes.get("url.path", s.name): s for s in recording.spans()}
    opened = spans["/echo"]
    assert (opened.kind, opened.attributes["http.response.status_code"]) == ("server", 101)
    assert opened.attributes["network.protocol.name"] == "websocket"
    assert opened.attributes["websocket.close_code"] == 1000
    assert (opened.status, opened.events) == ("unset", ())
    assert spans["echo"].parent_span_id == opened.span_id
    assert spans["/no"].attributes["http.response.status_code"] == 403


def test_a_client_that_goes_away(recording: Recording) -> None:
    closed = threading.Event()

    async def endless(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1_000
                    await asyncio.sleep(0)
            finally:
                closed.set()

        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/", endless)])
    with served(AsgiMiddleware(app, recording.tracer)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.read(10) == b"x" * 10
        answer.close()
        connection.close()
        assert closed.wait(20)
    span = recording.one()
    assert [event.name for event in span.events] == ["client disconnected"]
    assert (span.status, span.attributes["http.response.status_code"]) == ("unset", 200)


# --- by hand --------------------------------------------------------------------------------


def run(app: App, *received: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], **more}
    messages = iter([*received, {"type": "http.disconnect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_the_span_ends_with_the_body_and_not_with_what_comes_after(recording: Recording) -> None:
    after: list[int] = []

    async def later() -> None:
        assert recording.tracer.current_span is not None
        after.append(len(recording.spans()))
        with recording.tracer.span("background"):
            pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x", background=BackgroundTask(later))(scope, receive, send)

    run(AsgiMiddleware(app, recording.tracer))
    assert after == [1]
    spans = recording.by_name()
    assert spans["background"].parent_span_id == spans["GET"].span_id


def test_other_scopes_are_left_alone(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert recording.tracer.current_span is None

    run(AsgiMiddleware(app, recording.tracer), type="lifespan")
    run(AsgiMiddleware(app, recording.tracer), type="mqtt")
    assert recording.spans() == []


def test_a_span_that_is_current_in_the_server_is_no_parent(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x")(scope, receive, send)

    with recording.tracer.span("main"):
        run(AsgiMiddleware(app, recording.tracer))
    assert recording.by_name()["GET"].parent_span_id == 0
    assert current.get() is None


def test_the_route_that_a_router_left(recording: Recording) -> None:
    class Known:
        path_format = "/orders/{id}"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"], scope["root_path"] = Known, "/api/shop"
        await PlainTextResponse("x", 503)(scope, receive, send)

    run(AsgiMiddleware(app, recording.tracer), root_path="/api")
    span = recording.one()
    assert span.name == "GET /shop/orders/{id}"
    assert span.attributes["http.route"] == "/shop/orders/{id}"
    assert (span.status, span.attributes["error.type"]) == ("error", "503")


def test_a_task_that_is_cancelled_is_no_failure(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(AsgiMiddleware(app, recording.tracer))
    span = recording.one()
    assert (span.status, [e.name for e in span.events]) == ("unset", ["client disconnected"])


def test_a_trace_that_is_not_recorded(make_recording: Callable[..., Recording]) -> None:
    recording = make_recording(sample_ratio=0.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with recording.tracer.span("inside"):
            await PlainTextResponse("x")(scope, receive, send)

    assert len(run(AsgiMiddleware(app, recording.tracer))) == 2
    assert recording.spans() == []
