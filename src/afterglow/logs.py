"""Log records that say to which span they belong.

    afterglow.logs.install()
    logging.basicConfig(format="%(levelname)s %(trace_id)s %(span_id)s %(service)s %(message)s")

Every record made from now on has `trace_id` and `span_id`, as W3C Trace Context writes them, and
`service`; outside spans the ids are empty. Spans of `afterglow.Tracer` and OpenTelemetry's are
seen alike, whoever made the latter.

`Logger.makeRecord` is wrapped, not the record factory: what the factory sets, `extra={"trace_id":
...}` may not set again (logging raises KeyError), and programs that have such names already are
those who want this. Here theirs win.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from afterglow.config import RecordConfig, load
from afterglow.errors import SettingError
from afterglow.model.clean import safe_str
from afterglow.model.flat import widen
from afterglow.model.span import span_id_hex, trace_id_hex
from afterglow.record.context import current
from afterglow.record.identity import identity
from afterglow.record.span import Span

__all__ = ["TraceFilter", "install", "uninstall"]

_Make = Callable[..., logging.LogRecord]

#: What is recorded of a log record on a span: its severity, the logger, the message.
_LEVEL: Final = "log.severity"
_LOGGER: Final = "log.logger"
_MESSAGE: Final = "log.message"

_lock = threading.Lock()  # install and uninstall only; no record ever takes it
_installed: _Correlation | None = None


def install(*, service: str | None = None, events: int | str | None = None) -> None:
    """Give every log record of this process `trace_id`, `span_id` and `service`.

    `service` is the name of this program where the current span does not know it: left out, the
    setting `service_name` (AFTERGLOW_SERVICE_NAME, OTEL_SERVICE_NAME), else the script's name.
    `events` is a level ("ERROR", logging.ERROR): records of it and above become events of the
    current span, an exception with its traceback. None, the default, leaves spans alone: messages
    may hold what traces shall not. Called again, it changes both. Raises SettingError.
    """
    global _installed  # noqa: PLW0603  once a process
    level = None if events is None else _level(events)
    name = service if service is not None else _own_name()
    with _lock:
        if _installed is None:
            _installed = _Correlation(logging.Logger.makeRecord)
            logging.Logger.makeRecord = _installed.wrapped()  # type: ignore[method-assign]
        _installed.service, _installed.level, _installed.on = name, level, True


def uninstall() -> None:
    """Leave log records alone from now on; what was never installed is no error."""
    global _installed  # noqa: PLW0603
    with _lock:
        ours = _installed
        if ours is None:
            return
        ours.on, before = False, ours.before
        if getattr(logging.Logger.makeRecord, "_afterglow", None) is ours:
            logging.Logger.makeRecord = before  # type: ignore[method-assign]
            _installed = None
        # Otherwise somebody has wrapped it since: it stays where it is and does nothing.


class TraceFilter(logging.Filter):
    """The same for one handler or logger, with nothing wrapped: a filter that passes all.

    For programs that configure logging by a dict: `{"()": "afterglow.logs.TraceFilter"}`. A
    handler that works in another thread (QueueListener) needs it at its QueueHandler.
    """

    def __init__(self, service: str | None = None) -> None:
        super().__init__()
        self._service = service if service is not None else _own_name()

    def filter(self, record: logging.LogRecord) -> bool:
        say(record.__dict__, self._service)
        return True


class _Correlation:
    """What `install` put in the place of Logger.makeRecord."""

    def __init__(self, before: _Make) -> None:
        self.before = before
        self.on = True
        self.service = ""
        self.level: int | None = None
        self._within = threading.local()

    def wrapped(self) -> Any:
        before = self.before

        def makeRecord(logger: logging.Logger, *arguments: Any, **named: Any) -> Any:
            record = before(logger, *arguments, **named)
            if self.on:
                say(record.__dict__, self.service)
                if self.level is not None and record.levelno >= self.level:
                    self._attach(record)
            return record

        makeRecord._afterglow = self  # type: ignore[attr-defined]
        return makeRecord

    def _attach(self, record: logging.LogRecord) -> None:
        """Make it an event of the current span; what that logs itself is no event."""
        within = self._within
        if getattr(within, "now", False):
            return
        within.now = True
        try:
            span = _innermost()
            if span is not None:
                attach(span, record)
        except Exception:  # noqa: BLE001  recording never raises into the program
            return
        finally:
            within.now = False


# --- the current span -----------------------------------------------------------------------


def say(fields: dict[str, Any], service: str) -> None:
    """Set the three fields, but for those that are there already."""
    span = _innermost()
    if span is None:
        trace_id = span_id = ""
    else:
        trace_id, span_id = _ids(span)
        service = _service_of(span) or service
    fields.setdefault("trace_id", trace_id)
    fields.setdefault("span_id", span_id)
    fields.setdefault("service", service)


def _innermost() -> Any:
    """The current span: ours, OpenTelemetry's, or of both the one that began last."""
    ours = current.get()
    trace_api = sys.modules.get("opentelemetry.trace")
    if trace_api is None:
        return ours
    theirs = trace_api.get_current_span()
    if theirs is trace_api.INVALID_SPAN or not theirs.get_span_context().is_valid:
        return ours
    if ours is None:
        return theirs
    # One that is no span of ours has no such time: it is nearer to what is logged.
    begun, theirs_begun = getattr(ours, "start_ns", 0), getattr(theirs, "start_ns", None)
    return theirs if theirs_begun is None or theirs_begun >= begun else ours


def _ids(span: Any) -> tuple[str, str]:
    if hasattr(span, "get_span_context"):
        context = span.get_span_context()
        return trace_id_hex(context.trace_id), span_id_hex(context.span_id)
    trace = span.lost[1] if span.trace is None else span.trace
    return trace_id_hex(widen(identity.seed, trace)), span_id_hex(span.span_id)


def _service_of(span: Any) -> str | None:
    """As the span's own tracer is called, where it says so."""
    if isinstance(span, Span):
        return span.core.config.service_name
    resource = getattr(span, "resource", None)
    return None if resource is None else resource.attributes.get("service.name")


def attach(span: Any, record: logging.LogRecord) -> None:
    """The record as an event of the span: `exception` where it has one, else `log`."""
    attributes = {
        _LEVEL: safe_str(record.levelname),
        _LOGGER: safe_str(record.name),
        _MESSAGE: safe_str(record.getMessage()),
    }
    exception = record.exc_info[1] if record.exc_info else None
    if isinstance(span, Span):
        if exception is None:
            span.event("log", **attributes)
        else:
            span.record_exception(exception, **attributes)
    elif getattr(span, "is_recording", bool)():
        if exception is None:
            span.add_event("log", attributes)
        else:
            span.record_exception(exception, attributes)


# --- settings -------------------------------------------------------------------------------


def _level(events: int | str) -> int:
    level = logging.getLevelNamesMapping().get(events.upper()) if isinstance(events, str) else None
    if isinstance(events, int) and not isinstance(events, bool) and events > 0:
        level = events
    if not level:
        raise SettingError(f"events={events!r} is no level of logging: it takes ERROR, 40 and such")
    return level


def _own_name() -> str:
    argv0 = (getattr(sys, "argv", None) or [""])[0]
    return load(RecordConfig, {}).service_name or Path(argv0).stem or "python"
