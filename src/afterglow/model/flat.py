"""The flat form in which a span crosses from the program to the writer.

A finished span is `WIDTH` values in a row, extended onto one list in one step: nothing is
left for the garbage collector to follow, and the writer gets a column by a slice with a
stride (`flat[NAME::WIDTH]`).

    TRACE       int: the span id of the local root, widened by `widen` when somebody asks;
                bytes: the 16 bytes of a trace id that came from elsewhere
    SPAN_ID     int, 1 .. 2**64-1
    PARENT_ID   int, 0 for a root; a RemoteId where the parent is in another process
    NAME        str (anything at all, until the writer has cleaned it)
    START, END  int, ns on the monotonic clock of this process; END is None while it is open
    ATTRIBUTES  dict (perhaps empty), owned by the record from here on
    WHERE       (thread id, thread name) or (thread id, thread name, task name)
    EXTRA       None, or an `Extra`: all that most spans do not have
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from afterglow.model.span import Attributes, Event, Kind, Link, Span, StatusCode

__all__ = [
    "ATTRIBUTES",
    "END",
    "EXTRA",
    "NAME",
    "PARENT_ID",
    "SPAN_ID",
    "START",
    "TRACE",
    "WHERE",
    "WIDTH",
    "Extra",
    "Flat",
    "FlatLink",
    "FrameSummary",
    "RecordedException",
    "RemoteId",
    "Where",
    "spans_of",
    "spread",
    "widen",
]

TRACE: Final = 0
SPAN_ID: Final = 1
PARENT_ID: Final = 2
NAME: Final = 3
START: Final = 4
END: Final = 5
ATTRIBUTES: Final = 6
WHERE: Final = 7
EXTRA: Final = 8
WIDTH: Final = 9

Flat = list[Any]
Where = tuple[int, str] | tuple[int, str, str]
FrameSummary = tuple[str, int, str]  # file, line, function

_MASK64: Final = (1 << 64) - 1


class RemoteId(int):
    """A parent's span id that came from another process, and the trace state beside it.

    It rides in PARENT_ID like any id, so that the hot path need not know; the writer sees its
    type and marks the span (`Extra.remote_parent`, `Extra.trace_state`).
    """

    trace_state: str = ""


class RecordedException(msgspec.Struct, frozen=True):
    """An exception as the program saw it: the writer adds the source lines, which are I/O."""

    time_ns: int  # monotonic
    type: str
    message: str
    frames: tuple[FrameSummary, ...] = ()
    escaped: bool = True
    #: What else was said of it, clean.
    attributes: Attributes = {}


class FlatLink(msgspec.Struct, frozen=True):
    """A link, its trace id as 16 bytes: no encoding carries integers of 128 bits."""

    trace_id: bytes
    span_id: int
    trace_state: str = ""
    attributes: Attributes = {}
    dropped_attributes: int = 0

    def link(self) -> Link:
        """The same as a reader sees it."""
        trace_id = int.from_bytes(self.trace_id, "big")
        return Link(
            trace_id, self.span_id, self.trace_state, self.attributes, self.dropped_attributes
        )


class Extra(msgspec.Struct):
    """What most spans do not have. Its times are monotonic, as START and END are."""

    kind: Kind = "internal"
    status: StatusCode = "unset"
    status_description: str = ""
    status_text: str = ""
    events: list[Event] = []
    exceptions: list[RecordedException] = []
    links: list[FlatLink] = []
    trace_state: str = ""
    scope: str = ""
    scope_version: str = ""
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    remote_parent: bool = False


def widen(seed: int, trace: int | bytes) -> int:
    """The 128-bit trace id of a flat trace value.

    The high half is the process's own random `seed`; the low half is the local root's id
    through the finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection, so that the
    bits on which samplers elsewhere decide are spread evenly though the ids count upwards.
    """
    if isinstance(trace, bytes):
        return int.from_bytes(trace, "big")
    return (seed << 64) | spread(trace)


def spread(root_id: int) -> int:
    """The low half of a trace id that begins here: what samplers compare with their ratio."""
    z = root_id & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def spans_of(
    flat: Flat, *, seed: int, wall_offset_ns: int, run_id: str = "", pid: int = 0
) -> Iterator[Span]:
    """The spans of a clean flat list, as frozen values on the wall clock."""
    for at in range(0, len(flat), WIDTH):
        trace, span_id, parent_id, name, start, end, attributes, where, extra = flat[
            at : at + WIDTH
        ]
        common: dict[str, Any] = {
            "trace_id": widen(seed, trace),
            "span_id": span_id,
            "parent_span_id": parent_id,
            "name": name,
            "start_ns": start + wall_offset_ns,
            "end_ns": None if end is None else end + wall_offset_ns,
            "attributes": attributes,
            "run_id": run_id,
            "pid": pid,
            "thread_id": where[0],
            "thread_name": where[1],
            "task_name": where[2] if len(where) > 2 else "",
        }
        if extra is not None:
            common |= _of_extra(extra, wall_offset_ns)
        yield Span(**common)


def _of_extra(extra: Extra, wall_offset_ns: int) -> dict[str, Any]:
    return {
        "kind": extra.kind,
        "status": extra.status,
        "status_description": extra.status_description,
        "status_text": extra.status_text,
        "events": tuple(
            Event(e.name, e.time_ns + wall_offset_ns, e.attributes, e.dropped_attributes)
            for e in extra.events
        ),
        "links": tuple(link.link() for link in extra.links),
        "trace_state": extra.trace_state,
        "scope": extra.scope,
        "scope_version": extra.scope_version,
        "dropped_attributes": extra.dropped_attributes,
        "dropped_events": extra.dropped_events,
        "dropped_links": extra.dropped_links,
        "remote_parent": extra.remote_parent,
    }


def exception_attributes(exception: RecordedException, stacktrace: str) -> Attributes:
    """The attributes of OpenTelemetry's `exception` event."""
    attributes: Attributes = {
        "exception.type": exception.type,
        "exception.message": exception.message,
    }
    if stacktrace:
        attributes["exception.stacktrace"] = stacktrace
    if exception.escaped:
        attributes["exception.escaped"] = True
    return attributes | exception.attributes
