"""uvicorn's HTTP/1.1 protocol with bounds on what a peer may make us hold, and for how long.

uvicorn waits for ever for headers, takes any number of them, and lets a peer that does not read
keep its connection. What it reads of bodies it hands on piece by piece: those are bounded where
they are read (http_body.py).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["CROWDED", "GuardedProtocol", "Limits", "guarded"]

#: In the scope of a request that came over a connection too many.
CROWDED: Final = "afterglow.crowded"

#: What is left of a body that was answered already is read for so long, so that the peer gets to
#: read the answer; a peer that does not read at all is waited for as long.
_LINGER_S: Final = 5.0
#: So many connections beyond the limit are told so; further ones are closed at once.
_SPARE: Final = 64
#: What asyncio reads at once: its beginning may be of the request before.
_READ_BYTES: Final = 256 << 10
#: What one chunk may take beside what it carries.
_CHUNK_BYTES: Final = 16

_REASONS: Final = {
    400: b"400 Bad Request",
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
}
_TEXTS: Final = {
    400: b"this is no HTTP/1.1 request",
    408: b"the request did not come in time",
    431: b"the headers are too large",
}


class Limits(msgspec.Struct, frozen=True):
    """What one connection may take, and how many there may be."""

    max_connections: int
    max_header_bytes: int
    header_timeout_s: float


class _TooLarge(Exception):
    """Headers, or what follows a chunked body, are beyond the limit."""


#: uvicorn says each malformed request in its log: a peer could fill it.
_quiet = logging.getLogger("afterglow.ingest.uvicorn")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """The class that uvicorn makes a protocol of for each connection."""

    class Guarded(GuardedProtocol):
        LIMITS = limits

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Lives in the face's loop."""

    LIMITS: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet
        self.access_log = False
        self._crowded = False
        self._in_headers = False
        self._in_body = False
        self._goes_on = False
        #: Since the request began: all bytes, those of the body, those of whole headers.
        self._came_bytes = self._body_bytes = self._line_bytes = 0
        self._status = 400
        self._headers_due: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    # --- asyncio calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        n_others = len(self.connections) - 1
        if n_others >= self.LIMITS.max_connections + _SPARE:
            transport.abort()
            return
        self._crowded = n_others >= self.LIMITS.max_connections
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._headers_due, self._linger, self._stalled):
            if timer is not None:
                timer.cancel()
        # uvicorn leaves its own timer behind where the peer cut the connection.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._feed(data)
        if self.transport.is_closing():
            return
        self._came_bytes += len(data)
        if self._is_overhead_too_large():
            self._status = 431
            self.send_400_response("")
        elif not self._in_body and (self._in_headers or self._is_idle()):
            self._wait_for_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(_LINGER_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    # --- the parser calls these

    def on_message_begin(self) -> None:
        if self._goes_on:
            return
        super().on_message_begin()
        self._in_headers = True
        self._came_bytes = self._body_bytes = self._line_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._goes_on:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._goes_on:
            return
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._goes_on:
            self._goes_on = False
            return
        self._in_headers, self._in_body = False, True
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None
        if self._crowded:
            self.scope[CROWDED] = True  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser takes its body for another protocol: see _go_on
        self._in_body = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        super().on_message_complete()

    # --- uvicorn calls these

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and self._linger is None and not self.transport.is_closing():
            self._linger = self.loop.call_later(_LINGER_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, unless the answer to one before it is not written yet."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._refuse()
        elif cycle.more_body and not cycle.response_started and not self.pipeline:
            # The body of the very request that is being read.
            cycle.disconnected = True
            cycle.message_event.set()
            self._refuse()
        elif cycle.more_body and not self.pipeline:
            self.transport.close()
        else:
            cycle.keep_alive = False
            self.flow.pause_reading()

    # --- ours

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._go_on(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _go_on(self, rest: bytes) -> None:
        """Some HTTP/2 clients offer an upgrade with their first request, which we do not take up.

        The parser stops there, before the body: another one reads on, from a head that says how
        long the body is, and of which nobody hears.
        """
        length = b"".join(
            b"%b: %b\r\n" % header
            for header in self.headers
            if header[0] in (b"content-length", b"transfer-encoding")
        )
        self.parser = httptools.HttpRequestParser(self)
        self._goes_on = True
        self._feed(b"POST / HTTP/1.1\r\n%b\r\n" % length + rest)

    def _count(self, n_bytes: int) -> None:
        """Whole headers, and what stands behind a chunked body in their form."""
        self._line_bytes += n_bytes
        if self._line_bytes > self.LIMITS.max_header_bytes:
            self._status = 431
            raise _TooLarge  # the parser gives up, and data_received answers

    def _is_overhead_too_large(self) -> bool:
        """Whether a peer sends ever more that is no body: one endless header, notes on chunks."""
        if not (self._in_headers or self._in_body):
            return False
        overhead = self._came_bytes - self._body_bytes
        chunks = _CHUNK_BYTES * self._body_bytes  # chunks of one byte are silly, and allowed
        return overhead > self.LIMITS.max_header_bytes + _READ_BYTES + chunks

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(
                self.LIMITS.header_timeout_s, self._headers_are_late
            )

    def _headers_are_late(self) -> None:
        self._headers_due = None
        if self.transport.is_closing():
            return
        if not self._is_idle():
            self._wait_for_headers()  # an answer is still due; a peer may be slow meanwhile
        elif self._in_headers:
            self._status = 408
            self._refuse()
        else:
            self.transport.close()

    def _refuse(self) -> None:
        text = _TEXTS[self._status]
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (_REASONS[self._status], len(text), text)
        )
        self.transport.close()
