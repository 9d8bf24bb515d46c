"""What OTLP/HTTP answers: a status, and a message in the encoding of the request."""

from __future__ import annotations

import math
from typing import Final

import msgspec

__all__ = ["JSON", "PROTOBUF", "Answer", "failure", "retry_header"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

#: google.rpc.Code of each status.
_CODES: Final[dict[int, int]] = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    411: 3,
    413: 8,  # RESOURCE_EXHAUSTED
    415: 3,
    429: 8,
    431: 8,
    500: 13,  # INTERNAL
    503: 14,  # UNAVAILABLE
}


class Answer(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """As ASGI wants them."""
        named = (
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            *self.headers,
        )
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named]


def failure(
    status: int, message: str, content_type: str, *, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """An error as a google.rpc.Status: in protobuf for who sent that, else in JSON."""
    code = _CODES[status]
    if content_type == PROTOBUF:
        from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

        body: bytes = Status(code=code, message=message).SerializeToString()
    else:
        content_type = JSON
        body = msgspec.json.encode({"code": code, "message": message})
    return Answer(status, body, content_type, headers)


def retry_header(retry_after_s: float) -> tuple[str, str]:
    """When to come again: whole seconds, at least one."""
    return "retry-after", str(max(1, math.ceil(min(retry_after_s, 3_600.0))))
