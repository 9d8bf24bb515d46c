"""WSGI: each request gets a span, which ends with the body."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import Token
from typing import Any

from afterglow.middleware.request import Request, chosen, default_tracer, headers_of, server_of
from afterglow.record.context import current
from afterglow.record.tracer import Tracer

__all__ = ["WsgiMiddleware"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class WsgiMiddleware:
    """A WSGI program with a span round each request.

    `tracer` is one of yours; left out, one is made into the database of the settings. The span
    begins a trace or continues the caller's (W3C traceparent), is current while the program's own
    code runs, a generator's included, and never in the server's between. It ends with the body's
    last piece, when the server closes the body, or when the program raises. `record_query`,
    `request_headers` and `response_headers` (names) record what is not recorded otherwise.
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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        with self.tracer.continue_trace(_headers(environ)):
            request = Request(
                self.tracer, environ.get("REQUEST_METHOD", "GET"), self._attributes(environ)
            )

        def started(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            code = int(status[:3]) if status[:3].isdigit() else 0
            request.answered(code, headers_of("response", headers, self._response_headers))
            return start_response(status, headers, *exc_info)

        try:
            with self.tracer.use(request.span):
                body = self.app(environ, started)
        except BaseException as exception:
            request.routed(_route(environ))
            request.failed(exception)
            request.end()
            raise
        return _ended_with(body, request, environ)

    def _attributes(self, environ: Environ) -> dict[str, Any]:
        scheme = environ.get("wsgi.url_scheme", "http")
        where = server_of(environ.get("HTTP_HOST", ""), scheme)
        if not environ.get("HTTP_HOST"):
            port = environ.get("SERVER_PORT", "")
            where = {
                "server.address": environ.get("SERVER_NAME"),
                "server.port": int(port) if str(port).isdigit() else None,
            }
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return {
            "url.scheme": scheme,
            # The server has decoded its bytes as latin-1 (PEP 3333).
            "url.path": path.encode("latin-1", "replace").decode("utf-8", "replace"),
            "url.query": environ.get("QUERY_STRING") if self._record_query else None,
            "network.protocol.version": environ.get("SERVER_PROTOCOL", "").partition("/")[2],
            "client.address": environ.get("REMOTE_ADDR"),
            **where,
            **headers_of("request", _headers(environ), self._request_headers),
        }


def _ended_with(body: Iterable[bytes], request: Request, environ: Environ) -> Iterable[bytes]:
    """The body, which ends the span. What servers know by its type stays what it is."""
    if isinstance(body, list | tuple):
        request.routed(_route(environ))
        request.end()  # all of it is there; a list's length becomes the Content-Length
        return body
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type) and isinstance(body, wrapper):
        close = getattr(body, "close", None)

        def closed() -> None:
            try:
                if close is not None:
                    close()
            finally:
                request.routed(_route(environ))
                request.end()

        try:
            body.close = closed  # type: ignore[attr-defined]
        except AttributeError:  # one made in C: the file itself is not the program's work
            request.end()
        return body
    return _Body(body, request, environ)


class _Body:
    """A body whose pieces are made under the span, while the server sees its own context."""

    def __init__(self, body: Iterable[bytes], request: Request, environ: Environ) -> None:
        self._body = body
        self._pieces: Iterator[bytes] | None = None
        self._request = request
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = current.set(self._request.span)
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            return next(self._pieces)
        except StopIteration:
            self._end()
            raise
        except BaseException as exception:
            self._request.failed(exception)
            self._end()
            raise
        finally:
            _give_back(token)

    def close(self) -> None:
        """By the server, always; before the last piece if the client has gone."""
        token = current.set(self._request.span)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as exception:
            self._request.failed(exception)
            raise
        finally:
            _give_back(token)
            self._request.routed(_route(self._environ))
            self._request.left()

    def _end(self) -> None:
        self._request.routed(_route(self._environ))
        self._request.end()


def _give_back(token: Token[Any]) -> None:
    with contextlib.suppress(ValueError):  # another context than it was set in
        current.reset(token)


def _headers(environ: Environ) -> list[tuple[str, str]]:
    return [
        (name[5:].replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    ]


def _route(environ: Environ) -> str | None:
    """The pattern that the program's router has left behind (Flask, bottle)."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    rule = rule or getattr(environ.get("bottle.route"), "rule", None)
    return environ.get("SCRIPT_NAME", "") + rule if isinstance(rule, str) else None
