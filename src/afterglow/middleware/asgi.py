"""ASGI: HTTP and websockets get a span, lifespan is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from afterglow.middleware.request import (
    Header,
    Request,
    chosen,
    default_tracer,
    headers_of,
    server_of,
)
from afterglow.record.tracer import Tracer

__all__ = ["AsgiMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiMiddleware:
    """An ASGI program with a span round each request and each websocket.

    `tracer` is one of yours; left out, one is made into the database of the settings. The span
    begins a trace or continues the caller's (W3C traceparent), is current while the program runs,
    and ends when the last byte was sent, the client has gone, or the program returns or raises.
    `record_query`, `request_headers` and `response_headers` (names) record what is not otherwise.
    """

    def __init__(
        self,
        app: App,
        tracer: Tracer | None = None,
        *,
        record_query: bool = False,
        request_headers: Iterable[str] = (),
        response_headers: Iterable[str] = (),
    ) -> None:
        self.app = app
        self.tracer = default_tracer() if tracer is None else tracer
        self._record_query = record_query
        self._request_headers = chosen(request_headers)
        self._response_headers = chosen(response_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        # Also where nothing is told of a caller: a server's task may have begun under a span.
        with self.tracer.continue_trace(scope["headers"]):
            request = Request(self.tracer, self._method(scope), self._attributes(scope))
            with self.tracer.use(request.span):
                await self._run(request, scope, receive, send)

    async def _run(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        root_path = scope.get("root_path", "")
        answer = _Answer(request, self._response_headers)

        async def received() -> Message:
            message = await receive()
            if message["type"] in ("http.disconnect", "websocket.disconnect"):
                request.routed(_route(scope, root_path))
                answer.gone(message)
            return message

        async def sent(message: Message) -> None:
            answer.begins(message)
            try:
                await send(message)
            except OSError:  # the server says so that the client has gone
                request.routed(_route(scope, root_path))
                request.left()
                raise
            # A framework answers 500 first and raises then: the exception belongs to this span.
            if answer.is_last(message) and not request.is_error:
                request.routed(_route(scope, root_path))
                request.end()

        try:
            await self.app(scope, received, sent)
        except asyncio.CancelledError:
            request.routed(_route(scope, root_path))
            request.left()
            raise
        except BaseException as exception:
            request.failed(exception)
            raise
        finally:
            request.routed(_route(scope, root_path))
            request.end()

    def _method(self, scope: Scope) -> str:
        return scope["method"] if scope["type"] == "http" else "GET"

    def _attributes(self, scope: Scope) -> dict[str, Any]:
        headers = _texts(scope["headers"])
        scheme = scope.get("scheme") or ("http" if scope["type"] == "http" else "ws")
        client, server = scope.get("client"), scope.get("server")
        host = next((value for name, value in headers if name.lower() == "host"), "")
        where = server_of(host, scheme)
        if not host and server:
            where = {"server.address": server[0], "server.port": server[1]}
        query = scope.get("query_string", b"").decode("latin-1") if self._record_query else None
        return {
            "url.scheme": scheme,
            "url.path": scope["path"],
            "url.query": query,
            "network.protocol.name": "websocket" if scope["type"] == "websocket" else None,
            "network.protocol.version": scope.get("http_version"),
            "client.address": client[0] if client else None,
            "client.port": client[1] if client else None,
            **where,
            **headers_of("request", headers, self._request_headers),
        }


class _Answer:
    """How far the answer of one request has come."""

    def __init__(self, request: Request, names: frozenset[str]) -> None:
        self._request = request
        self._names = names
        self._trailers = False
        self._accepted = False

    def begins(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            headers = headers_of("response", _texts(message.get("headers", ())), self._names)
            self._request.answered(message["status"], headers)
            self._trailers = bool(message.get("trailers"))
        elif kind == "websocket.accept":
            self._accepted = True
            headers = headers_of("response", _texts(message.get("headers", ())), self._names)
            self._request.answered(101, headers)
        elif kind == "websocket.close" and not self._accepted:
            self._request.answered(403, {})
        elif kind == "websocket.close":
            self._request.span.set(**{"websocket.close_code": message.get("code", 1000)})

    def is_last(self, message: Message) -> bool:
        kind = message["type"]
        if kind in ("http.response.body", "websocket.http.response.body"):
            return not message.get("more_body", False) and not self._trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        # pathsend answers in one message; a websocket is over with it.
        return kind in ("http.response.pathsend", "websocket.close")

    def gone(self, message: Message) -> None:
        """A closed websocket is a normal end; a request without its answer is not."""
        if message["type"] == "websocket.disconnect":
            self._request.span.set(**{"websocket.close_code": message.get("code", 1005)})
            self._request.end()
        else:
            self._request.left()


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> list[Header]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _route(scope: Scope, root_path: str) -> str | None:
    """The pattern that the program's router has left in the scope (starlette, FastAPI)."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    path = path or scope.get("path_template")
    if not isinstance(path, str):
        return None
    mounted = scope.get("root_path", "")
    return (mounted[len(root_path) :] if mounted.startswith(root_path) else "") + path
