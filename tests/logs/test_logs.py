"""Log records say to which span they belong; errors that are logged become events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from afterglow import logs
from afterglow.errors import SettingError
from afterglow.model.span import span_id_hex, trace_id_hex
from afterglow.otel import TracerProvider
from afterglow.testing import ListSink
from tests.conftest import Recording
from tests.counting_lock import CountingLock


class Kept(logging.Handler):
    """The records, as a handler's formatter sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.setFormatter(logging.Formatter("%(trace_id)s|%(span_id)s|%(service)s|%(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    made = logging.Logger("shop.orders")
    yield made
    logs.uninstall()
    assert logging.Logger.makeRecord.__module__ == "logging"


@pytest.fixture
def kept(log: logging.Logger) -> Kept:
    handler = Kept()
    log.addHandler(handler)
    return handler


Make = Callable[..., Recording]


def test_a_record_in_a_span_of_ours(log: logging.Logger, kept: Kept, make_recording: Make) -> None:
    tracer = make_recording(service_name="shop").tracer
    logs.install(service="elsewhere")
    with tracer.span("order") as span:
        log.info("paid")
        with tracer.span("inner") as inner:
            log.info("shipped")
    log.info("outside")
    trace_id = trace_id_hex(span.trace_id)
    assert kept.lines == [
        f"{trace_id}|{span_id_hex(span.span_id)}|shop|paid",
        f"{trace_id}|{span_id_hex(inner.span_id)}|shop|shipped",
        "||elsewhere|outside",
    ]
    assert span.traceparent.split("-")[1:3] == kept.lines[0].split("|")[:2]


@pytest.mark.parametrize("provider", ["ours", "sdk"])
def test_a_record_in_a_span_of_opentelemetry(
    log: logging.Logger, kept: Kept, provider: str
) -> None:
    logs.install(service="elsewhere")
    made: Any = TracerProvider(database=ListSink()) if provider == "ours" else SdkProvider()
    with made.get_tracer("x").start_as_current_span("order") as span:
        log.info("paid")
    context = span.get_span_context()
    trace_id, span_id, service, _ = kept.lines[0].split("|")
    assert (int(trace_id, 16), int(span_id, 16)) == (context.trace_id, context.span_id)
    assert (len(trace_id), len(span_id)) == (32, 16)
    assert service == made.resource.attributes["service.name"]
    made.shutdown()


def test_of_two_current_spans_the_newer_one_is_said(
    log: logging.Logger, kept: Kept, make_recording: Make
) -> None:
    ours = make_recording().tracer
    provider = TracerProvider(database=ListSink())
    otel = provider.get_tracer("x")
    logs.install()
    with ours.span("a") as outer, otel.start_as_current_span("b") as inner:
        log.info("in b")
        with ours.span("c") as innermost:
            log.info("in c")
    assert inner.get_span_context().trace_id == outer.trace_id
    assert [line.split("|")[1] for line in kept.lines] == [
        span_id_hex(inner.get_span_context().span_id),
        span_id_hex(innermost.span_id),
    ]
    provider.shutdown()


def test_a_caller_elsewhere_and_a_trace_not_recorded_are_said_too(
    log: logging.Logger, kept: Kept, make_recording: Make
) -> None:
    tracer = make_recording(sample_ratio=0.0).tracer
    logs.install()
    header = f"00-{7:032x}-{9:016x}-01"
    with tracer.continue_trace({"traceparent": header}):
        log.info("the caller's")
    with tracer.span("left out") as span:
        log.info("not recorded")
    with use_span(NonRecordingSpan(SpanContext(3, 4, True, TraceFlags(0)))):
        log.info("somebody's")
    said = [tuple(line.split("|")[:2]) for line in kept.lines]
    assert said == [
        (f"{7:032x}", f"{9:016x}"),
        tuple(span.traceparent.split("-")[1:3]),
        (f"{3:032x}", f"{4:016x}"),
    ]


def test_what_the_program_says_itself_wins(
    log: logging.Logger, kept: Kept, make_recording: Make
) -> None:
    logs.install(service="ours")
    with make_recording().tracer.span("order"):
        log.info("x", extra={"trace_id": "mine", "service": "cart"})
    assert kept.lines[0].startswith("mine|")
    assert kept.lines[0].endswith("|cart|x")


def test_uninstall_and_wrappers_that_came_later(log: logging.Logger, kept: Kept) -> None:
    before = logging.Logger.makeRecord
    logs.install()
    ours = logging.Logger.makeRecord

    def later(self: Any, *arguments: Any, **named: Any) -> Any:
        return ours(self, *arguments, **named)

    logging.Logger.makeRecord = later  # type: ignore[method-assign]
    logs.uninstall()
    log.handlers = []
    record = log.makeRecord("x", 20, "f", 1, "m", (), None)
    assert not hasattr(record, "trace_id")
    assert logging.Logger.makeRecord is later  # type: ignore[comparison-overlap]
    logs.install()
    assert hasattr(log.makeRecord("x", 20, "f", 1, "m", (), None), "trace_id")
    logging.Logger.makeRecord = ours  # type: ignore[method-assign]
    logs.uninstall()
    assert logging.Logger.makeRecord is before
    logs.uninstall()


def test_a_filter_does_it_for_one_handler(
    log: logging.Logger, kept: Kept, make_recording: Make
) -> None:
    kept.addFilter(logs.TraceFilter("shop"))
    with make_recording().tracer.span("order") as span:
        log.info("paid")
    assert kept.lines == [f"{trace_id_hex(span.trace_id)}|{span_id_hex(span.span_id)}|shop|paid"]


def test_errors_become_events_when_asked_for(log: logging.Logger, make_recording: Make) -> None:
    recording = make_recording()
    logs.install(events="ERROR")
    with recording.tracer.span("order"):
        log.warning("not this")
        log.error("no stock of %s", "tea")
        try:
            raise ValueError("no such tea")
        except ValueError:
            log.exception("cannot pay")
    log.error("outside")
    span = recording.one()
    assert span.status == "unset"  # it was dealt with
    first, second = span.events
    said = {"log.severity": "ERROR", "log.logger": "shop.orders"}
    assert (first.name, first.attributes) == ("log", said | {"log.message": "no stock of tea"})
    assert second.name == "exception"
    trace = second.attributes.pop("exception.stacktrace")
    assert trace.startswith("Traceback") and 'raise ValueError("no such tea")' in trace
    assert second.attributes == said | {
        "log.message": "cannot pay",
        "exception.type": "ValueError",
        "exception.message": "no such tea",
    }


def test_errors_become_events_of_opentelemetry_spans(log: logging.Logger) -> None:
    sink = ListSink()
    provider = TracerProvider(database=sink)
    logs.install(events=logging.ERROR)
    with provider.get_tracer("x").start_as_current_span("order"):
        log.error("no stock")
        try:
            raise ValueError("no such tea")
        except ValueError:
            log.exception("cannot pay")
    provider.shutdown()
    (span,) = sink.spans
    assert [e.name for e in span.events] == ["log", "exception"]
    assert span.events[1].attributes["log.message"] == "cannot pay"
    assert "no such tea" in span.events[1].attributes["exception.stacktrace"]
    assert span.status == "unset"


def test_without_being_asked_no_event_is_made(log: logging.Logger, make_recording: Make) -> None:
    recording = make_recording()
    logs.install()
    with recording.tracer.span("order"):
        log.error("a secret")
    assert recording.one().events == ()


def test_a_record_that_cannot_be_read_raises_nothing_and_logs_once(
    log: logging.Logger, make_recording: Make
) -> None:
    class Loud:
        def __str__(self) -> str:
            log.error("from within")
            raise RuntimeError("no text")

    recording = make_recording()
    logs.install(events="ERROR")
    with recording.tracer.span("order"):
        record = log.makeRecord("x", 40, "f", 1, "%s", (Loud(),), None)
        assert record.trace_id  # type: ignore[attr-defined]
        log.error("goes on")
    assert [e.attributes["log.message"] for e in recording.one().events] == ["goes on"]


def test_no_lock_of_ours_is_taken(
    log: logging.Logger, make_recording: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_recording()
    monkeypatch.setattr(logs, "_lock", CountingLock())
    logs.install(events="ERROR")
    me = threading.get_ident()
    assert me in CountingLock.acquired_by, "the test sees no lock at all"
    CountingLock.acquired_by.clear()
    with recording.tracer.span("order"):
        log.makeRecord("x", 40, "f", 1, "m", (), None)
    assert me not in CountingLock.acquired_by


@pytest.mark.parametrize("level", ["LOUD", 0, True, -1])
def test_a_level_that_is_none(level: Any) -> None:
    with pytest.raises(SettingError, match="no level of logging"):
        logs.install(events=level)


def test_opentelemetry_need_not_be_there() -> None:
    import subprocess
    import sys

    code = (
        "import logging, sys; import afterglow.logs as l; l.install(service='x');"
        "logging.basicConfig(format='%(trace_id)s%(service)s'); logging.error('m');"
        "assert 'opentelemetry' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "x\n")
