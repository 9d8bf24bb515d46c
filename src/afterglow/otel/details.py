"""What most spans do not have: events, links, a status, times of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afterglow.clock import wall_ns
from afterglow.model.flat import Extra, FlatLink, RecordedException
from afterglow.model.span import Event as StoredEvent
from afterglow.model.span import Kind
from afterglow.otel.api import BoundedAttributes, trace_api
from afterglow.otel.limits import SpanLimits
from afterglow.record.exceptions import captured
from afterglow.write.prepare import stacktrace

__all__ = ["Details", "Event", "ExceptionEvent", "bounded", "kind_name", "valid_link"]

StatusCode = trace_api.StatusCode
_STATUS = {StatusCode.UNSET: "unset", StatusCode.OK: "ok", StatusCode.ERROR: "error"}


def kind_name(kind: trace_api.SpanKind) -> Kind:
    """The kind as the store has it."""
    return kind.name.lower()  # type: ignore[return-value]


def bounded(
    count: int | None, attributes: Any, length: int | None, *, immutable: bool = True
) -> BoundedAttributes:
    """Attributes cleaned and limited by the API's own class."""
    return BoundedAttributes(count, attributes, immutable, length)


def valid_link(context: Any, attributes: Any) -> bool:
    """Whether a link says anything: an invalid context may, by attributes or trace state."""
    return bool(context and (context.is_valid or attributes or context.trace_state))


class Event:
    """Something that happened at one moment (`timestamp`: ns since 1970); immutable."""

    __slots__ = ("_attributes", "name", "timestamp")

    def __init__(self, name: str, timestamp: int | None, attributes: Any) -> None:
        self.name = name
        self.timestamp = wall_ns() if timestamp is None else timestamp
        self._attributes = attributes

    @property
    def attributes(self) -> Mapping[str, Any]:
        attributes: Mapping[str, Any] = self._attributes
        return attributes

    @property
    def dropped_attributes(self) -> int:
        return getattr(self._attributes, "dropped", 0)

    def stored(self, offset_ns: int) -> StoredEvent:
        """The same on the monotonic clock, for the flat record."""
        return StoredEvent(
            self.name, self.timestamp - offset_ns, dict(self.attributes), self.dropped_attributes
        )


class ExceptionEvent(Event):
    """An exception as an event. Its text is made when somebody reads it: that costs I/O."""

    __slots__ = ("_escaped", "_lines", "_recorded", "_size")

    def __init__(
        self,
        exception: BaseException,
        timestamp: int | None,
        *,
        escaped: bool,
        size: tuple[int | None, int | None],
    ) -> None:
        super().__init__("exception", timestamp, None)
        self._recorded = captured(exception, escaped=escaped)
        self._escaped = escaped
        self._size = size

    @property
    def attributes(self) -> Mapping[str, Any]:
        if self._attributes is None:
            count, length = self._size
            self._attributes = bounded(count, self.texts(), length)
        attributes: Mapping[str, Any] = self._attributes
        return attributes

    def texts(self) -> dict[str, str]:
        """The attributes before they are limited."""
        recorded = self._recorded
        return {
            "exception.type": recorded.type,
            "exception.message": recorded.message,
            "exception.stacktrace": stacktrace(recorded),
            "exception.escaped": str(self._escaped),
        }

    def recorded(self, offset_ns: int) -> RecordedException:
        """The same for the flat record; the writer makes its text."""
        from_wall = self.timestamp - offset_ns
        seen = self._recorded
        return RecordedException(from_wall, seen.type, seen.message, seen.frames, self._escaped)


class Details:
    """Made for a span when it first needs them; its owner is whoever uses the span."""

    __slots__ = (
        "dropped_attributes",
        "dropped_events",
        "dropped_links",
        "end_time",
        "events",
        "links",
        "start_time",
        "status",
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.links: list[Any] = []
        self.status: Any = None
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0
        #: Times that the caller gave, ns since 1970.
        self.start_time: int | None = None
        self.end_time: int | None = None

    def add_event(self, event: Event, limits: SpanLimits) -> None:
        """The oldest go first, and are counted."""
        self.events.append(event)
        self.dropped_events += _trimmed(self.events, limits.max_events)

    def add_link(self, context: Any, attributes: Any, limits: SpanLimits) -> None:
        """The same for links; their attributes become immutable."""
        clean = bounded(limits.max_link_attributes, attributes, limits.max_attribute_length)
        self.links.append(trace_api.Link(context, clean))
        self.dropped_links += _trimmed(self.links, limits.max_links)

    def extra(self, common: Extra, offset_ns: int) -> Extra:
        """What the flat record carries of all this, beside what the span's scope has."""
        status = self.status
        return Extra(
            kind=common.kind,
            scope=common.scope,
            scope_version=common.scope_version,
            trace_state=common.trace_state,
            status="unset" if status is None else _STATUS[status.status_code],  # type: ignore[arg-type]
            status_description=(status.description or "") if status is not None else "",
            events=[e.stored(offset_ns) for e in self.events if type(e) is Event],
            exceptions=[
                e.recorded(offset_ns) for e in self.events if isinstance(e, ExceptionEvent)
            ],
            links=[_flat_link(link) for link in self.links],
            dropped_attributes=self.dropped_attributes,
            dropped_events=self.dropped_events,
            dropped_links=self.dropped_links,
        )


def _trimmed(values: list[Any], limit: int | None) -> int:
    if limit is None or len(values) <= limit:
        return 0
    over = len(values) - limit
    del values[:over]
    return over


def _flat_link(link: Any) -> FlatLink:
    context, attributes = link.context, link.attributes
    return FlatLink(
        context.trace_id.to_bytes(16, "big"),
        context.span_id,
        context.trace_state.to_header() if context.trace_state else "",
        dict(attributes or {}),
        getattr(attributes, "dropped", 0),
    )
