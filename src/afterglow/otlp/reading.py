"""How a span of OTLP is read, for `payload` and `columns`: each rule once.

Times are held in 63 bits, an end is never before its start, a parent that is the span itself or
zeros is none. What OTLP has no field for is an attribute: thread id and name by OpenTelemetry's
names, the task and a status of one's own by ours. These go back where they came from.
"""

from __future__ import annotations

from typing import Any, Final

from afterglow.model.span import KINDS, STATUS_CODES, Event, Kind, Link, StatusCode

__all__ = [
    "LARGEST",
    "STATUS_TEXT",
    "TASK_NAME",
    "THREAD_ID",
    "THREAD_NAME",
    "attributes_of",
    "event_of",
    "kind_of",
    "link_of",
    "parent_of",
    "status_of",
    "take_own",
    "times_of",
    "trace_flags_of",
    "value_of",
]

LARGEST: Final = (1 << 63) - 1
THREAD_ID: Final = "thread.id"
THREAD_NAME: Final = "thread.name"
TASK_NAME: Final = "afterglow.task.name"
STATUS_TEXT: Final = "afterglow.status_text"

_KINDS: Final[dict[int, Kind]] = dict(enumerate(("internal", *KINDS)))
_STATUSES: Final[dict[int, StatusCode]] = dict(enumerate(STATUS_CODES))
_ENTRY: Final = ("server", "consumer")
_REMOTE_KNOWN: Final = 0x100
_REMOTE: Final = 0x200
_NO_SPAN: Final = bytes(8)


def kind_of(span: Any) -> Kind:
    """Its kind; one that we do not know is internal."""
    return _KINDS.get(span.kind, "internal")


def status_of(span: Any) -> StatusCode:
    """Its status; one that we do not know is unset."""
    return _STATUSES.get(span.status.code, "unset")


def trace_flags_of(span: Any) -> int:
    """W3C's flags, as they were sent: 0 where the sender says nothing."""
    flags: int = span.flags & 0xFF
    return flags


def parent_of(span: Any) -> tuple[bytes, bool]:
    """The parent's id, empty where there is none, and whether it is in another process."""
    parent: bytes = span.parent_span_id
    if not parent or parent in (span.span_id, _NO_SPAN):
        return b"", False
    flags = span.flags
    if flags & _REMOTE_KNOWN:
        return parent, bool(flags & _REMOTE)
    return parent, kind_of(span) in _ENTRY


def times_of(span: Any) -> tuple[int, int]:
    """Start and end: wall clock, ns."""
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not start <= end <= LARGEST:
        start = min(start, LARGEST)
        end = max(start, min(end, LARGEST))
    return start, end


def event_of(event: Any) -> Event:
    return Event(
        event.name,
        min(event.time_unix_nano, LARGEST),
        attributes_of(event.attributes),
        event.dropped_attributes_count,
    )


def link_of(link: Any) -> Link:
    return Link(
        int.from_bytes(link.trace_id),
        int.from_bytes(link.span_id),
        link.trace_state,
        attributes_of(link.attributes),
        link.dropped_attributes_count,
    )


def attributes_of(pairs: Any) -> dict[str, Any]:
    """A list of KeyValue as a mapping; of a key that is there twice, the last."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: Any) -> Any:
    """An AnyValue as a value of Python; None where it says nothing."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind)


def take_own(attributes: dict[str, Any]) -> tuple[int, str, str, str]:
    """Thread id, thread name, task name and status text, taken out of a span's attributes.

    Those that are empty, or of another type, stay what they are.
    """
    thread_id = thread_name = task_name = status_text = None
    if type(attributes.get(THREAD_ID)) is int and attributes[THREAD_ID]:
        thread_id = attributes.pop(THREAD_ID)
    if type(attributes.get(THREAD_NAME)) is str and attributes[THREAD_NAME]:
        thread_name = attributes.pop(THREAD_NAME)
    if type(attributes.get(TASK_NAME)) is str and attributes[TASK_NAME]:
        task_name = attributes.pop(TASK_NAME)
    if type(attributes.get(STATUS_TEXT)) is str and attributes[STATUS_TEXT]:
        status_text = attributes.pop(STATUS_TEXT)
    return thread_id or 0, thread_name or "", task_name or "", status_text or ""
