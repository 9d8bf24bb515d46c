"""A span while it lives: what a program holds between start and end."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from afterglow.clock import monotonic_ns
from afterglow.model.clean import clean_attributes, clean_name, safe_str
from afterglow.model.flat import Extra, FlatLink, widen
from afterglow.model.span import KINDS, Event, Kind, StatusCode
from afterglow.record.context import format_traceparent, parse_traceparent
from afterglow.record.core import Core
from afterglow.record.exceptions import captured
from afterglow.record.identity import identity

__all__ = ["NoopSpan", "Span"]


class Span:
    """One operation, from start to end; made by a Tracer.

    Every method may be called from any thread, never raises and never waits. What comes after
    the end, or on a span that is not recorded, is ignored.

    The slots are the flat record in the making; `__enter__` and `__exit__`, the hot path, are
    in record/hot.py, with all that they touch bound in a closure.
    """

    __slots__ = (
        "attributes",
        "lost",
        "name",
        "parent_id",
        "span_id",
        "start_ns",
        "token",
        "trace",
        "where",
    )

    core: ClassVar[Core]

    name: str
    attributes: dict[str, Any]
    #: The flat trace value (model/flat.py), or None: this trace is not recorded.
    trace: int | bytes | None
    span_id: int
    parent_id: int
    start_ns: int  # monotonic
    token: Any
    where: Any
    #: (reason, flat trace value) of a span that is not recorded; unset otherwise.
    lost: tuple[str, int | bytes]

    # --- what the program says of it ----------------------------------------------------

    def set(self, **attributes: Any) -> Self:
        """Add attributes; a key that is there already gets the new value."""
        return self.set_attributes(attributes)

    def set_attributes(self, attributes: Mapping[str, Any]) -> Self:
        """The same for keys that are no Python names (`http.request.method`)."""
        if self.recording or not hasattr(self, "span_id"):
            self.attributes.update(attributes)
        return self

    def error(self, exception: BaseException | str | None = None) -> Self:
        """Mark the span as failed; an exception becomes an `exception` event too."""
        extra = self._extra()
        if extra is not None:
            extra.status = "error"
            if isinstance(exception, BaseException):
                self._add_exception(extra, exception, escaped=False)
            elif exception is not None:
                extra.status_description = safe_str(exception)
        return self

    def set_status(self, status: StatusCode, description: str = "") -> Self:
        """OpenTelemetry's status; any other text is kept as it is (`status_text`)."""
        extra = self._extra()
        if extra is not None:
            if status in ("unset", "ok", "error"):
                extra.status, extra.status_text = status, ""
            else:
                extra.status_text = safe_str(status)
            extra.status_description = safe_str(description)
        return self

    def set_kind(self, kind: Kind) -> Self:
        """internal (the default), server, client, producer or consumer."""
        extra = self._extra()
        if extra is not None and kind in KINDS:
            extra.kind = kind
        return self

    def event(self, name: str, /, **attributes: Any) -> Self:
        """Something that happened now."""
        extra = self._extra()
        if extra is not None:
            core = self.core
            clean, dropped = clean_attributes(
                attributes, core.changed, max_attributes=core.config.max_attributes
            )
            extra.events.append(
                Event(clean_name(name, core.changed), monotonic_ns(), clean, dropped)
            )
            if len(extra.events) > core.config.max_events:
                del extra.events[0]
                extra.dropped_events += 1
                core.changed("events_dropped", 1)
        return self

    def record_exception(self, exception: BaseException, **attributes: Any) -> Self:
        """An exception that was dealt with: an `exception` event; the status stays as it is."""
        extra = self._extra()
        if extra is not None:
            core = self.core
            clean, _ = clean_attributes(
                attributes, core.changed, max_attributes=core.config.max_attributes
            )
            extra.exceptions.append(captured(exception, escaped=False, attributes=clean))
            del extra.exceptions[: -core.config.max_events or None]
        return self

    def link(self, other: Span | str, **attributes: Any) -> Self:
        """Point to another span, or to a traceparent header; an invalid one is ignored."""
        header = other if isinstance(other, str) else other.traceparent
        parsed = parse_traceparent(header)
        extra = self._extra()
        if extra is not None and parsed is not None:
            core = self.core
            clean, dropped = clean_attributes(
                attributes, core.changed, max_attributes=core.config.max_attributes
            )
            extra.links.append(FlatLink(parsed[0], parsed[1], "", clean, dropped))
            if len(extra.links) > core.config.max_links:
                del extra.links[0]
                extra.dropped_links += 1
                core.changed("links_dropped", 1)
        return self

    def end(self, end_ns: int | None = None) -> None:
        """End it, in any thread; `end_ns` is wall-clock ns since 1970, now if left out."""
        now = monotonic_ns()
        if end_ns is not None:
            now = max(self.start_ns, end_ns - self.core.wall_offset_ns)
        self.core.finish(self, now)

    # --- what it is ---------------------------------------------------------------------

    @property
    def recording(self) -> bool:
        """Begun, not ended, and not refused by the sampler or the budget."""
        return getattr(self, "span_id", None) in self.core.registry and self.trace is not None

    @property
    def trace_id(self) -> int:
        """The 128-bit trace id."""
        return widen(identity.seed, self._trace())

    @property
    def traceparent(self) -> str:
        """The W3C header that makes a span elsewhere a child of this one."""
        return format_traceparent(self._trace(), self.span_id, sampled=self.trace is not None)

    def _trace(self) -> int | bytes:
        return self.lost[1] if self.trace is None else self.trace

    def __repr__(self) -> str:
        state = "recording" if self.recording else "not recording"
        return f"<Span {self.name!r} {state}>"

    # --- the hot path is made for each tracer (record/hot.py) -----------------------------

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exception, traceback)

    # --- for this room ------------------------------------------------------------------

    def escaped(self, exception: BaseException) -> None:
        """An exception left the `with` block. Control flow is no failure of the operation:
        SystemExit, GeneratorExit and asyncio's CancelledError are no `Exception`s."""
        if isinstance(exception, Exception):
            extra = self._extra()
            if extra is not None:
                extra.status = "error"
                self._add_exception(extra, exception, escaped=True)

    def open_extra(self) -> Extra | None:
        """A copy of what most spans do not have, for the record of an open span."""
        extra = self.core.extras.get(self.span_id)
        if extra is None:
            return None
        return msgspec.structs.replace(
            extra,
            events=list(extra.events),
            exceptions=list(extra.exceptions),
            links=list(extra.links),
        )

    def _add_exception(self, extra: Extra, exception: BaseException, *, escaped: bool) -> None:
        recorded = captured(exception, escaped=escaped)
        extra.exceptions.append(recorded)
        del extra.exceptions[: -self.core.config.max_events or None]
        if not extra.status_description:
            extra.status_description = f"{recorded.type}: {recorded.message}"

    def _extra(self) -> Extra | None:
        """What most spans do not have, made when first asked for; None once it is too late."""
        if not self.recording:
            return None
        return self.core.extras.setdefault(self.span_id, Extra())


class NoopSpan(Span):
    """The span of a tracer that is off: one object for all, it remembers nothing."""

    __slots__ = ()

    @property
    def recording(self) -> bool:
        return False

    @property
    def trace_id(self) -> int:
        return 0

    @property
    def traceparent(self) -> str:
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def set_attributes(self, attributes: Mapping[str, Any]) -> Self:
        return self

    def end(self, end_ns: int | None = None) -> None:
        return None
