"""W3C Trace Context in and out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from afterglow.record.context import format_traceparent, parse_traceparent
from tests.conftest import Recording

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"


def test_parse_and_format_are_inverse() -> None:
    parsed = parse_traceparent(HEADER)
    assert parsed == (bytes.fromhex(TRACE), int(PARENT, 16), True)
    assert format_traceparent(parsed[0], parsed[1], sampled=parsed[2]) == HEADER


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        HEADER.upper(),
        HEADER + "-extra",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
    ],
)
def test_invalid_headers_begin_a_new_trace(recording: Recording, header: str) -> None:
    assert parse_traceparent(header) is None
    with (
        recording.tracer.continue_trace({"traceparent": header}),
        recording.tracer.span("work"),
    ):
        pass
    assert recording.one().is_root


def test_a_later_version_may_append(recording: Recording) -> None:
    assert parse_traceparent(f"cc-{TRACE}-{PARENT}-01-what-follows") is not None


@pytest.mark.parametrize(
    "carrier",
    [
        {"Traceparent": HEADER, "TraceState": "a=1"},
        [(b"traceparent", HEADER.encode()), (b"tracestate", b"a=1")],
        {"traceparent": [HEADER], "tracestate": ["a=1"]},
    ],
)
def test_a_callers_trace_goes_on(recording: Recording, carrier: Any) -> None:
    tracer = recording.tracer
    sent: dict[str, str] = {}
    with tracer.continue_trace(carrier), tracer.span("work") as span:
        with tracer.span("inner"):
            tracer.inject(sent)
        assert span.traceparent == f"00-{TRACE}-{span.span_id:016x}-01"
    spans = recording.by_name()
    assert f"{spans['work'].trace_id:032x}" == TRACE
    assert f"{spans['work'].parent_span_id:016x}" == PARENT
    assert spans["work"].remote_parent and not spans["inner"].remote_parent
    assert spans["work"].trace_state == "a=1"
    assert sent["traceparent"] == f"00-{TRACE}-{spans['inner'].span_id:016x}-01"
    assert sent["tracestate"] == "a=1"


def test_two_traceparents_are_none(recording: Recording) -> None:
    carrier = [("traceparent", HEADER), ("traceparent", HEADER)]
    with recording.tracer.continue_trace(carrier), recording.tracer.span("work"):
        pass
    assert recording.one().is_root


def test_a_caller_who_does_not_record_is_followed(make_recording: Any) -> None:
    unsampled = {"traceparent": HEADER[:-1] + "0"}
    recording = make_recording()
    tracer = recording.tracer
    sent: dict[str, str] = {}
    with tracer.continue_trace(unsampled), tracer.span("work") as span:
        assert not span.recording
        with tracer.span("inner"):
            tracer.inject(sent)
    assert recording.spans() == []
    assert sent == unsampled
    assert tracer.ledger()["not_recorded"] == {"parent": 2}
    own_mind = make_recording(parent_based=False)
    with own_mind.tracer.continue_trace(unsampled), own_mind.tracer.span("work"):
        pass
    assert len(own_mind.spans()) == 1


def test_a_child_process_goes_on_with_traceparent(recording: Recording) -> None:
    program = (
        "import afterglow; from afterglow.testing import ListSink\n"
        "tracer = afterglow.Tracer(ListSink())\n"
        "with tracer.span('child') as span: print(span.traceparent, end='')\n"
        "tracer.close()\n"
        "(span,) = tracer.sink.spans\n"
        "print(f' {span.parent_span_id:016x}')\n"
    )
    with recording.tracer.span("parent") as parent:
        environment = os.environ | recording.tracer.environment()
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    header, parent_id = done.stdout.split()
    assert header.split("-")[1] == f"{parent.trace_id:032x}"
    assert parent_id == f"{parent.span_id:016x}"
