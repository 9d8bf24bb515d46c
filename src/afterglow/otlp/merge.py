"""Payloads put together into one request, as bytes: neighbours share their resource and scope.

A payload begins with what is said of the resource, and ends with its scope's message, which begins
with what is said of the scope, and ends with the span. So two payloads with the same beginnings are
of the same resource and scope.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from afterglow.errors import MalformedOtlpError, OtlpError
from afterglow.otlp.splice import field
from afterglow.otlp.wire import split, varint

__all__ = ["merged"]

_RESOURCE_SPANS: Final = 0x0A
_INNER: Final = 0x12  # ScopeSpans in ResourceSpans, spans in ScopeSpans
_MOST_PARTS: Final = 1_000_000


def merged(payloads: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest with the spans of all payloads, in their order."""
    out: list[bytes] = []
    scopes: list[bytes] = []
    spans: list[bytes] = []
    head = scope = None
    for came in payloads:
        payload = came
        at = -1 if head is None else _last_inner(payload, 0, head)
        if at < 0:
            _end_scope(scopes, scope, spans)
            _end_resource(out, head, scopes)
            scope = None
            head, payload = _beginning(payload, 0)
            if head is None:
                out.append(field(_RESOURCE_SPANS, payload))
                continue
            at = _last_inner(payload, 0, head)
        span = -1 if scope is None else _last_inner(payload, at, scope)
        if span < 0:
            _end_scope(scopes, scope, spans)
            scope, payload = _beginning(payload, at)
            if scope is None:
                # Several spans in one, or none: as it is.
                scopes.append(field(_INNER, payload[at:]))
                continue
            span = _last_inner(payload, at, scope)
        spans.append(field(_INNER, payload[span:]))
    _end_scope(scopes, scope, spans)
    _end_resource(out, head, scopes)
    return b"".join(out)


def _last_inner(message: bytes, at: int, head: bytes) -> int:
    """Where the content of the only inner message begins, if `head` and it are all there is."""
    if not message.startswith(head, at):
        return -1
    at += len(head)
    if at + 1 >= len(message) or message[at] != _INNER:
        return -1
    length = message[at + 1]
    start = at + 2
    if length > 0x7F:
        try:
            length, start = varint(message, at + 1)
        except MalformedOtlpError:
            return -1
    return start if start + length == len(message) else -1


def _beginning(message: bytes, at: int) -> tuple[bytes | None, bytes]:
    """What is beside the one inner message, and the message with that put last."""
    try:
        found, head = split(message, at, len(message), _INNER, _MOST_PARTS)
    except OtlpError:
        return None, message
    if len(found) != 1:
        return None, message
    start, end = found[0]
    return head, message[:at] + head + field(_INNER, message[start:end])


def _end_scope(scopes: list[bytes], scope: bytes | None, spans: list[bytes]) -> None:
    if scope is not None:
        scopes.append(field(_INNER, scope + b"".join(spans)))
        spans.clear()


def _end_resource(out: list[bytes], head: bytes | None, scopes: list[bytes]) -> None:
    if head is not None:
        out.append(field(_RESOURCE_SPANS, head + b"".join(scopes)))
        scopes.clear()
