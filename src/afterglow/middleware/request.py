"""One request's span: what OpenTelemetry's semantic conventions for HTTP servers say of it.

Both middlewares find out what was asked and what was answered; here it gets its names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from afterglow.config import destination
from afterglow.record.exceptions import type_name
from afterglow.record.span import Span
from afterglow.record.tracer import Tracer

__all__ = ["Header", "Request", "chosen", "default_tracer", "headers_of", "server_of"]

Header = tuple[str, str]

_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY")
)


def default_tracer() -> Tracer:
    """A tracer to where the settings say (AFTERGLOW_SEND_URL, else AFTERGLOW_DATABASE)."""
    from afterglow.wiring import Tracer as WiredTracer

    return WiredTracer(destination())


class Request:
    """A span of kind server, from the first byte of a request to the last of its answer."""

    def __init__(self, tracer: Tracer, method: str, attributes: dict[str, Any]) -> None:
        known = method in _METHODS
        attributes = {"http.request.method": method if known else "_OTHER", **attributes}
        if not known:
            attributes["http.request.method_original"] = method
        self._shown = method if known else "HTTP"
        self.span: Span = tracer.start_span(self._shown).set_kind("server")
        self.span.set_attributes({k: v for k, v in attributes.items() if v not in (None, "")})
        self.is_error = self.ended = False

    def answered(self, status: int, headers: dict[str, Any]) -> None:
        """The answer has begun."""
        self.span.set_attributes({"http.response.status_code": status, **headers})
        if status >= 500:
            self.is_error = True
            self.span.set(**{"error.type": str(status)}).set_status("error")

    def routed(self, route: str | None) -> None:
        """The pattern that the path fitted (`/orders/{id}`) is known."""
        if route and not self.ended:
            self.span.set(**{"http.route": route})
            self.span.name = f"{self._shown} {route}"

    def failed(self, exception: BaseException) -> None:
        """It came out of the program. What ends a thread, task or generator is no failure."""
        if isinstance(exception, Exception) and not self.ended:
            self.span.set(**{"error.type": type_name(type(exception))}).error(exception)

    def left(self) -> None:
        """The client went away before the answer was whole."""
        if not self.ended:
            self.span.event("client disconnected")
            self.end()

    def end(self) -> None:
        """Once; later calls do nothing."""
        if not self.ended:
            self.ended = True
            self.span.end()


def chosen(names: Iterable[str]) -> frozenset[str]:
    """Names of headers in lower case."""
    if isinstance(names, str):
        names = names.split(",")
    return frozenset(name.strip().lower() for name in names)


def headers_of(kind: str, headers: Iterable[Header], names: frozenset[str]) -> dict[str, list[str]]:
    """`http.request.header.<name>` and such, each a list, of the headers that were chosen."""
    found: dict[str, list[str]] = {}
    if names:
        for name, value in headers:
            if name.lower() in names:
                found.setdefault(f"http.{kind}.header.{name.lower()}", []).append(value)
    return found


def server_of(host: str, scheme: str) -> dict[str, Any]:
    """`server.address` and `server.port` from a Host header (`[::1]:8000`, `shop.example`)."""
    address, colon, port = host.rpartition(":")
    if not colon or port.endswith("]") or not port.isdigit():
        address, port = host, ""
    number = int(port) if port else {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(scheme)
    return {"server.address": address.strip("[]"), "server.port": number}
