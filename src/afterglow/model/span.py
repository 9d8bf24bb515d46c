"""A span, as OpenTelemetry knows it, and the values inside it."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

__all__ = [
    "KINDS",
    "STATUS_CODES",
    "AttributeValue",
    "Attributes",
    "Event",
    "Kind",
    "Link",
    "Span",
    "StatusCode",
    "span_id_hex",
    "trace_id_hex",
]

Scalar = str | bool | int | float | bytes | None
AttributeValue = Scalar | list["AttributeValue"] | dict[str, "AttributeValue"]
# Any, for msgspec decodes no union of str and bytes; `clean_attributes` makes it true.
Attributes = dict[str, Any]

Kind = Literal["internal", "server", "client", "producer", "consumer"]
KINDS: Final[tuple[Kind, ...]] = ("internal", "server", "client", "producer", "consumer")

StatusCode = Literal["unset", "ok", "error"]
STATUS_CODES: Final[tuple[StatusCode, ...]] = ("unset", "ok", "error")


def trace_id_hex(trace_id: int) -> str:
    """32 lower-case hexadecimal digits, as W3C Trace Context writes a trace id."""
    return f"{trace_id:032x}"


def span_id_hex(span_id: int) -> str:
    """16 lower-case hexadecimal digits, as W3C Trace Context writes a span id."""
    return f"{span_id:016x}"


class Event(msgspec.Struct, frozen=True):
    """Something that happened at one moment (`time_ns`: wall clock, ns since 1970)."""

    name: str
    time_ns: int
    attributes: Attributes = {}
    dropped_attributes: int = 0


class Link(msgspec.Struct, frozen=True):
    """A pointer to a span of this or another trace."""

    trace_id: int
    span_id: int
    trace_state: str = ""
    attributes: Attributes = {}
    dropped_attributes: int = 0


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One finished, or interrupted, operation.

    Ids are unsigned integers of 128 and 64 bits; `parent_span_id` is 0 for a root.
    `start_ns` is on the wall clock (ns since 1970); the duration was measured on a
    monotonic clock, so it is never negative. `end_ns` is None where the program was
    killed, or goes on, before the span ended.
    """

    trace_id: int
    span_id: int
    parent_span_id: int = 0
    name: str
    kind: Kind = "internal"
    start_ns: int
    end_ns: int | None
    attributes: Attributes = {}
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    status: StatusCode = "unset"
    status_description: str = ""
    #: The status as the program wrote it, where it is none of OpenTelemetry's three.
    status_text: str = ""
    trace_state: str = ""
    trace_flags: int = 1
    scope: str = ""
    scope_version: str = ""
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    #: The parent is in another process.
    remote_parent: bool = False
    run_id: str = ""
    pid: int = 0
    thread_id: int = 0
    thread_name: str = ""
    task_name: str = ""

    @property
    def duration_ns(self) -> int | None:
        """End less start, or None while there is no end."""
        return None if self.end_ns is None else self.end_ns - self.start_ns

    @property
    def is_root(self) -> bool:
        return self.parent_span_id == 0

    @property
    def interrupted(self) -> bool:
        """Begun, and never ended as far as anybody knows."""
        return self.end_ns is None
