"""A span with OpenTelemetry's whole interface, and the readable side that exporters want.

The hot path (begin, make current, end) is in hot.py, made for each tracer. Such a span stands
in the context variable itself while it is current, and answers as a Context would: making a
Context for each span would cost more than the rest of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

from afterglow.model.flat import widen
from afterglow.otel.api import BoundedAttributes, SpanBase, trace_api
from afterglow.otel.as_context import AsContext
from afterglow.otel.details import Details, Event, ExceptionEvent, bounded, valid_link
from afterglow.otel.inherited import Inherited, Scope
from afterglow.otel.to_json import span_to_json
from afterglow.record.context import format_traceparent
from afterglow.record.identity import identity

__all__ = ["SIMPLE", "Span", "logger"]

# The SDK's own logger: programs and tests listen there for what a span says.
logger = logging.getLogger("opentelemetry.sdk.trace")

_UNSET = trace_api.Status(trace_api.StatusCode.UNSET)
SIMPLE = frozenset({str, bool, int, float, bytes, type(None)})


class Span(AsContext, SpanBase):
    """One operation. Made by a Tracer; see the OpenTelemetry API for what each method does."""

    # Beside the dict that the API's class gives, slots: a quarter of a span's cost less. All are
    # set when a span is made, but for those that it gets when it begins.
    __slots__ = (
        "_attributes",
        "_kind",
        "_name",
        "details",
        "end_ns",
        "inherited",
        "parent_id",
        "scope",
        "span_id",
        "start_ns",
        "token",
        "trace",
        "where",
    )

    # The flat record in the making (model/flat.py), and what the readable side adds.
    scope: Scope  # what the spans of one tracer share
    _name: str
    _attributes: dict[str, Any]
    _kind: trace_api.SpanKind
    trace: int | bytes
    span_id: int
    parent_id: int
    start_ns: int  # monotonic
    end_ns: int | None
    where: Any
    token: Any
    inherited: Inherited
    details: Details | None
    _span_context: trace_api.SpanContext | None = None
    #: The parent's, where it is no span of ours, or a processor may ask for it.
    _parent_context: trace_api.SpanContext | None = None
    #: Whether an exception out of `with start_span()` is recorded, and sets the status.
    on_exception: tuple[bool, bool] = (True, True)
    #: False: for processors only, not for the writer (a sampler said RECORD_ONLY).
    sampled: bool = True

    # --- what the program says of it --------------------------------------------------------

    def set_attribute(self, key: str, value: Any) -> None:
        if self.end_ns is not None:
            logger.warning("Setting attribute on ended span.")
            return
        scope = self.scope
        attributes = self._attributes
        if (
            type(value) in SIMPLE
            and type(key) is str
            and key
            and scope.text_limit is None
            and (len(attributes) < scope.attribute_limit)
        ):
            if key in attributes:
                del attributes[key]  # the one set last counts as the newest
            attributes[key] = value
        else:
            self._set_one(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self.end_ns is not None:
            logger.warning("Setting attribute on ended span.")
            return
        self._set_bounded(attributes)

    def _set_bounded(self, attributes: Mapping[Any, Any]) -> None:
        """Clean by the API's own rules, and drop the oldest of too many."""
        length = self.scope.limits.max_span_attribute_length
        self._merge(bounded(None, attributes, length, immutable=False))

    def _set_one(self, key: Any, value: Any) -> None:
        # Not a mapping of one: there the API makes text of a key that is none, here it drops it.
        new = bounded(None, None, self.scope.limits.max_span_attribute_length, immutable=False)
        new[key] = value
        self._merge(new)

    def _merge(self, new: BoundedAttributes) -> None:
        kept = self._attributes
        into = bounded(self.scope.limits.max_span_attributes, kept, None, immutable=False)
        for key, value in new.items():
            into[key] = value
        dropped = into.dropped + new.dropped
        if dropped:
            self.more().dropped_attributes += dropped
        kept.clear()
        kept.update(into)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        limits = self.scope.limits
        clean = bounded(limits.max_event_attributes, attributes, limits.max_attribute_length)
        self._add(Event(name, timestamp, clean), "_add_event")

    def _add(self, event: Event, what: str) -> None:
        if self.end_ns is not None:
            logger.warning("Tried calling %s on an ended span.", what)
            return
        self.more().add_event(event, self.scope.limits)

    def add_link(self, context: trace_api.SpanContext, attributes: Any = None) -> None:
        if not valid_link(context, attributes):
            return
        if self.end_ns is not None:
            logger.warning("Tried calling %s on an ended span.", "_add_link")
            return
        self.more().add_link(context, attributes, self.scope.limits)

    def update_name(self, name: str) -> None:
        if self.end_ns is not None:
            logger.warning("Tried calling %s on an ended span.", "update_name")
            return
        self._name = name

    def set_status(self, status: Any, description: str | None = None) -> None:
        if self.end_ns is not None:
            logger.warning("Tried calling %s on an ended span.", "set_status")
            return
        is_status = isinstance(status, trace_api.Status)
        code = status.status_code if is_status else status
        if code is trace_api.StatusCode.UNSET or self.status.status_code is trace_api.StatusCode.OK:
            return
        if not is_status:
            status = trace_api.Status(status, description)
        elif description is not None:
            logger.warning(
                "Description %s ignored. Use either `Status` or `(StatusCode, Description)`",
                description,
            )
        self.more().status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        limits = self.scope.limits
        size = (limits.max_event_attributes, limits.max_attribute_length)
        event = ExceptionEvent(exception, timestamp, escaped=escaped, size=size)
        if attributes:
            clean = bounded(size[0], {**event.texts(), **attributes}, size[1])
            self._add(Event("exception", event.timestamp, clean), "_add_event")
        else:
            self._add(event, "_add_event")

    def is_recording(self) -> bool:
        return self.end_ns is None

    # --- begin and end are made for each tracer (hot.py) ------------------------------------

    def end(self, end_time: int | None = None) -> None:
        raise NotImplementedError

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """`with tracer.start_span(...)`: ends the span, which was never current."""
        if exc_val is not None and self.end_ns is None:
            record, status = self.on_exception
            self.failed(exc_val, escaped=True, record=record, status=status)
        self.end()

    def failed(
        self, exception: BaseException, *, escaped: bool, record: bool = True, status: bool = True
    ) -> None:
        """An exception came out of the block of this span."""
        if record:
            self.record_exception(exception, escaped=escaped)
        if status:
            text = f"{type(exception).__name__}: {exception}"
            self.set_status(trace_api.Status(trace_api.StatusCode.ERROR, text))

    def more(self) -> Details:
        """What most spans do not have, made when first needed."""
        details = self.details
        if details is None:
            details = self.details = Details()
        return details

    # --- the readable side ------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> trace_api.SpanKind:
        return self._kind

    @property
    def trace_id(self) -> int:
        return widen(identity.seed, self.trace)

    def get_span_context(self) -> trace_api.SpanContext:
        context = self._span_context
        if context is None:
            inherited = self.inherited
            context = self._span_context = trace_api.SpanContext(
                self.trace_id,
                int(self.span_id),
                False,
                trace_api.TraceFlags(inherited.flags),
                inherited.trace_state,
            )
        return context

    @property
    def context(self) -> trace_api.SpanContext:
        return self.get_span_context()

    @property
    def parent(self) -> trace_api.SpanContext | None:
        if self._parent_context is not None or not self.parent_id:
            return self._parent_context
        mine = self.get_span_context()
        return trace_api.SpanContext(
            mine.trace_id, int(self.parent_id), False, mine.trace_flags, mine.trace_state
        )

    @property
    def start_time(self) -> int | None:
        if self.details is not None and self.details.start_time is not None:
            return self.details.start_time
        return self.start_ns + self.scope.core.wall_offset_ns

    @property
    def end_time(self) -> int | None:
        if self.end_ns is None:
            return None
        if self.details is not None and self.details.end_time is not None:
            return self.details.end_time
        return self.end_ns + self.scope.core.wall_offset_ns

    @property
    def attributes(self) -> Mapping[str, Any]:
        self.settle()
        return MappingProxyType(self._attributes)

    @property
    def events(self) -> Sequence[Event]:
        return () if self.details is None else tuple(self.details.events)

    @property
    def links(self) -> Sequence[trace_api.Link]:
        return () if self.details is None else tuple(self.details.links)

    @property
    def status(self) -> trace_api.Status:
        status = None if self.details is None else self.details.status
        return _UNSET if status is None else status

    @property
    def resource(self) -> Any:
        return self.scope.resource()

    @property
    def instrumentation_scope(self) -> Any:
        return self.scope.instrumentation

    @property
    def instrumentation_info(self) -> Any:
        return self.scope.info

    @property
    def dropped_attributes(self) -> int:
        self.settle()
        return 0 if self.details is None else self.details.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return 0 if self.details is None else self.details.dropped_events

    @property
    def dropped_links(self) -> int:
        return 0 if self.details is None else self.details.dropped_links

    def to_json(self, indent: int | None = 4) -> str:
        """The span as the SDK writes it."""
        return span_to_json(self, indent)

    def headers(self) -> dict[str, str]:
        """`traceparent` and `tracestate`, for what the recorder itself starts (processes)."""
        header = format_traceparent(self.trace, self.span_id, sampled=self.sampled)
        state = self.inherited.trace_state
        return {"traceparent": header} | ({"tracestate": state.to_header()} if state else {})

    def _readable_span(self) -> Span:
        return self

    # Names that exporters and tests read though they are the SDK's own.
    _context = context
    _parent = parent
    _start_time = start_time
    _end_time = end_time
    _events = events
    _links = links
    _status = status
    _resource = resource
    _instrumentation_scope = instrumentation_scope

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self._name}", context={self.get_span_context()})'

    # --- for the recorder -------------------------------------------------------------------

    def open_extra(self) -> Any:
        """What the flat record says besides, while the span is open."""
        common = self.scope.extra(self._kind)
        details = self.details
        if details is None:
            return common
        return details.extra(common, self.scope.core.wall_offset_ns)

    def settle(self) -> None:
        """Drop attributes whose keys cannot be keys: looked at when somebody reads, or late.

        The hot path does not look at each key; the writer does, where nobody else did.
        """
        given = self._attributes
        try:
            fine = "" not in given and "".join(given) is not None
        except TypeError:
            fine = False
        if not fine:
            self._attributes = {}
            self._set_bounded(given)
