"""OTLP by HTTP/1.1, on one connection that stays open: a request at a time, all of it bounded."""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from afterglow.clock import Clock
from afterglow.config import SendConfig
from afterglow.errors import SettingError
from afterglow.sink.otlp_address import Address
from afterglow.sink.otlp_answer import Answer, of_http, short_text
from afterglow.store.columns import zstd
from afterglow.version import VERSION

__all__ = ["HttpPost", "squeezer"]

#: Of an answer so much is read; a connection with more on it is not used again.
_MOST_ANSWER_BYTES: Final = 64 * 1024
_BLOCK_BYTES: Final = 256 * 1024

#: What failed before any of the answer came, on a connection that had been used before: the
#: server closed it while it was idle, and never saw the request.
_STALE: Final = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected)


class HttpPost:
    """Sends bodies by POST; one thread at a time. It never raises for what a network does.

    A server has `timeout_s` for the whole of a request, however slowly it goes on. Redirects are
    not followed: they would carry headers elsewhere.
    """

    def __init__(self, address: Address, config: SendConfig, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._timeout_s = config.timeout_s
        self._squeeze = squeezer(config.compression)
        self._headers = {
            "content-type": "application/json"
            if config.protocol == "http/json"
            else "application/x-protobuf",
            "user-agent": f"afterglow/{VERSION}",
        }
        if config.compression != "none":
            self._headers["content-encoding"] = config.compression
        self._tls = _tls_context(config) if address.tls else None
        self._connection: http.client.HTTPConnection | None = None
        self._deadline_ns = 0

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one body, and say what became of it."""
        squeezed = self._squeeze(body)
        self._deadline_ns = self._clock.monotonic_ns() + round(self._timeout_s * 1e9)
        used_before = self._connection is not None
        try:
            try:
                return self._exchange(squeezed, headers)
            except _STALE:
                if not used_before:
                    raise
                self.close()
                return self._exchange(squeezed, headers)
        except TimeoutError:
            self.close()
            return Answer("later", f"no answer within {self._timeout_s:g} s")
        except ssl.SSLError as error:
            self.close()
            return Answer("later", f"TLS: {error.reason or error}")
        except OSError as error:
            self.close()
            return Answer("later", error.strerror or str(error) or type(error).__name__)
        except (http.client.HTTPException, ValueError) as error:
            self.close()
            said = short_text(str(error).encode(errors="replace")) or type(error).__name__
            return Answer("later", f"the answer is no HTTP ({said})")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def after_fork(self) -> None:
        """In a child: the connection is the parent's. Closing our copy says nothing on it."""
        connection, self._connection = self._connection, None
        sock = connection.sock if connection is not None else None
        if sock is not None:
            os.close(sock.detach())

    # --- one request ----------------------------------------------------------------------------

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = self._connected()
        connection.putrequest("POST", self._address.path)
        for name, value in (self._headers | dict(headers)).items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        self._pace(connection)
        connection.endheaders()
        view = memoryview(body)
        for at in range(0, len(body), _BLOCK_BYTES):
            self._pace(connection)
            connection.send(view[at : at + _BLOCK_BYTES])
        response = connection.getresponse()
        start = response.read(_MOST_ANSWER_BYTES)
        names = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close or not response.isclosed():
            self.close()  # it is closed by them, or holds more than we read
        return of_http(response.status, names, start, self._clock.wall_ns())

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._address.host, self._address.port
            timeout_s = self._left_s()
            if self._tls is not None:
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=timeout_s, context=self._tls
                )
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
            self._connection.response_class = self._response  # type: ignore[assignment]
            self._connection.connect()
        return self._connection

    def _response(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str = ""
    ) -> http.client.HTTPResponse:
        paced = _Paced(sock, self._left_s)
        return http.client.HTTPResponse(paced, debuglevel, method=method)  # type: ignore[arg-type]

    def _pace(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is not None:
            connection.sock.settimeout(self._left_s())

    def _left_s(self) -> float:
        """Seconds until the deadline. Raises TimeoutError behind it."""
        left_ns = self._deadline_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            raise TimeoutError
        return left_ns / 1e9


class _Paced(io.RawIOBase):
    """The reading end of a socket, with one deadline for all reads together."""

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._left_s = left_s

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(self._left_s())
        return self._sock.recv_into(buffer)


def squeezer(compression: str) -> Callable[[bytes], bytes]:
    """What a `content-encoding` does to a body; fast rather than small."""
    if compression == "gzip":

        def gzip(body: bytes) -> bytes:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            return packer.compress(body) + packer.flush()

        return gzip
    if compression == "zstd":
        return lambda body: bytes(zstd.compress(body, 1))
    return lambda body: body


def _tls_context(config: SendConfig) -> ssl.SSLContext:
    """Raises SettingError for a file of authorities that cannot be used."""
    try:
        return ssl.create_default_context(cafile=config.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"ca_file={config.ca_file!r} of [send] cannot be used: {why}") from None
