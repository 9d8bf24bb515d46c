"""What is current, and W3C Trace Context in and out.

`current` holds the span that new spans become children of, or None. Whatever sits in it has
three attributes:

    trace      the flat trace value, or None where this trace is not recorded
    span_id    the id that children name as their parent
    lost       only where trace is None: (reason, flat trace value) for the books and for headers
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from afterglow.model.flat import RemoteId, widen
from afterglow.model.span import span_id_hex, trace_id_hex
from afterglow.record.identity import identity

__all__ = [
    "RemoteParent",
    "current",
    "format_traceparent",
    "parse_traceparent",
    "remote_parent",
]

current: ContextVar[Any] = ContextVar("afterglow_current", default=None)

#: W3C Trace Context, level 1, section 3.2: version 00, and later versions that only append.
_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_SAMPLED: Final = 0x01
_TRACESTATE_MAX: Final = 512  # what W3C asks everybody to carry at least


class RemoteParent:
    """A span of another process, as its traceparent header told."""

    __slots__ = ("lost", "span_id", "trace", "trace_id")

    def __init__(
        self, trace_id: bytes, span_id: int, *, recorded: bool = True, reason: str = "parent"
    ) -> None:
        self.trace_id = trace_id
        self.trace: bytes | None = trace_id if recorded else None
        self.span_id = span_id
        self.lost = (reason, trace_id)

    @property
    def trace_state(self) -> str:
        return getattr(self.span_id, "trace_state", "")

    def refuse(self, reason: str) -> None:
        """Do not record this trace here."""
        self.trace = None
        self.lost = (reason, self.trace_id)

    def headers(self) -> dict[str, str]:
        """What to send on where no span of ours stands between."""
        header = format_traceparent(self.trace_id, self.span_id, sampled=self.trace is not None)
        state = self.trace_state
        return {"traceparent": header} | ({"tracestate": state} if state else {})


def parse_traceparent(header: str) -> tuple[bytes, int, bool] | None:
    """(trace id of 16 bytes, span id, sampled), or None where the header is not valid.

    An invalid header is ignored, as the specification asks: a new trace begins.
    """
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return bytes.fromhex(trace_id), int(span_id, 16), bool(int(flags, 16) & _SAMPLED)


def format_traceparent(trace: int | bytes, span_id: int, *, sampled: bool) -> str:
    """The traceparent header of a span."""
    trace_id = trace_id_hex(widen(identity.seed, trace))
    return f"00-{trace_id}-{span_id_hex(span_id)}-{_SAMPLED if sampled else 0:02x}"


def remote_parent(
    carrier: Mapping[str, Any] | Iterable[tuple[Any, Any]], *, parent_based: bool = True
) -> RemoteParent | None:
    """The caller's span from headers (a mapping, or pairs; str or bytes, any case) or None."""
    headers = _headers(carrier)
    parsed = parse_traceparent(headers.get("traceparent", ""))
    if parsed is None:
        return None
    trace_id, span_id, sampled = parsed
    remote_id = RemoteId(span_id)
    state = headers.get("tracestate", "").strip()
    if state and len(state) <= _TRACESTATE_MAX:
        remote_id.trace_state = state
    return RemoteParent(trace_id, remote_id, recorded=sampled or not parent_based)


def _headers(carrier: Mapping[str, Any] | Iterable[tuple[Any, Any]]) -> dict[str, str]:
    pairs = carrier.items() if isinstance(carrier, Mapping) else carrier
    found: dict[str, str] = {}
    for key, value in pairs:
        name = _text(key).lower()
        if name == "traceparent" and name in found:
            return {}  # two of them: W3C says to begin a new trace
        if name in ("traceparent", "tracestate"):
            found[name] = f"{found[name]},{_text(value)}" if name in found else _text(value)
    return found


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple) and value:
        return _text(value[0])
    return value if isinstance(value, str) else ""
