"""The door behind the faces: what becomes of each span of a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ingest.intake import Body, Intake, Outcome, RefusedBy, Taken
from afterglow.model.segment import BufferedSpan

from .conftest import Rig, request_of


def take(rig: Rig, body: bytes) -> Taken:
    return rig.intake.take(body, json=False, project="shop", face="http")


def test_what_the_buffer_accepts_is_accepted(rig: Rig) -> None:
    assert take(rig, request_of(3)) == Taken(accepted=3)
    assert {span.project for span in rig.buffer.spans} == {"shop"}
    assert rig.shown == rig.buffer.spans
    assert rig.outcomes() == {"accepted": 1}
    assert rig.total("received_bytes") == len(request_of(3))


def test_an_empty_request_is_accepted_and_bothers_nobody(rig: Rig) -> None:
    assert take(rig, b"") == Taken(accepted=0)
    assert rig.buffer.begun == 0 and rig.shown == []


def test_what_the_buffer_refuses_is_the_senders_still(rig: Rig) -> None:
    rig.buffer.refuse_next = 1
    taken = take(rig, request_of(3))
    assert (taken.accepted, taken.refused, taken.retry_after_s) == (0, 3, 0.2)
    assert rig.shown == []
    assert take(rig, request_of(3)).accepted == 3
    assert rig.outcomes() == {"refused": 1, "accepted": 1}
    assert rig.counts.read()[
        "refused_spans", (("face", "http"), ("reason", "buffer"))
    ] == 3  # fmt: skip


def test_a_buffer_that_fails_refuses(rig: Rig) -> None:
    rig.buffer.fail_next = 1
    taken = take(rig, request_of(2))
    assert (taken.refused, taken.reason) == (2, "the buffer failed")
    assert rig.lines == ["the buffer failed: OSError: [Errno 28] No space left on device"]
    assert take(rig, request_of(2)).accepted == 2


def test_spans_that_nobody_can_keep_are_dropped_and_told(rig: Rig) -> None:
    request = ExportTraceServiceRequest.FromString(request_of(2))
    request.resource_spans[0].scope_spans[0].spans[1].span_id = b"short"
    taken = take(rig, request.SerializeToString())
    assert (taken.accepted, taken.dropped) == (1, {"invalid_id": 1})
    assert (taken.rejected, taken.rejected_why) == (1, "1 invalid_id")
    assert rig.outcomes() == {"partial": 1}


def test_repeats_of_what_is_safe_are_no_news_for_a_sender() -> None:
    taken = Taken(accepted=1, dropped={"duplicate": 4, "too_large": 2})
    assert (taken.rejected, taken.rejected_why) == (2, "2 too_large")


def test_a_closed_gate_refuses_as_a_value(rig: Rig) -> None:
    rig.intake.close_gate("the collector is stopping")
    taken = take(rig, request_of(2))
    assert (taken.refused, taken.reason) == (2, "the collector is stopping")
    assert taken.retry_after_s > 0
    assert rig.buffer.begun == 0
    assert rig.counts.read()[
        "refused_spans", (("face", "http"), ("reason", "stopping"))
    ] == 2  # fmt: skip


def test_what_is_no_otlp_raises_and_is_counted(rig: Rig) -> None:
    with pytest.raises(MalformedOtlpError):
        take(rig, b"no protobuf")
    assert rig.outcomes() == {"malformed": 1}


def test_what_is_too_much_raises_and_is_counted(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(otlp={"max_spans": 1})
    with pytest.raises(OtlpLimitError):
        take(rig, request_of(2))
    assert rig.outcomes() == {"too_large": 1}


def test_who_shows_spans_may_fail(rig: Rig) -> None:
    def show(_spans: list[BufferedSpan]) -> None:
        raise ValueError("the disk is away")

    intake = Intake(
        rig.buffer,
        rig.intake._rules,
        rig.counts,
        clock=rig.intake._clock,
        on_accepted=show,
        report=rig.lines.append,
    )
    taken = intake.take(request_of(), json=False, project="shop", face="grpc")
    assert taken.accepted == 1
    assert rig.lines == ["accepted spans cannot be shown yet: ValueError: the disk is away"]


def test_all_that_is_counted_is_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "ledger.md").read_text()
    section = page.partition("## Requests of a collector")[2].partition("\n## ")[0]
    for name in (*get_args(Outcome), *get_args(RefusedBy)):
        assert f"| `{name}` |" in section


def test_many_are_added_at_once_and_each_is_decoded_alone(rig: Rig) -> None:
    bodies = [Body(request_of(2), False, "shop"), Body(b"\xff", False, "shop", 7),
              Body(request_of(3), False, "depot")]  # fmt: skip
    first, wrong, last = rig.intake.take_many(bodies, face="http")
    assert first == last == Taken(accepted=5)
    assert isinstance(wrong, MalformedOtlpError)
    assert rig.buffer.begun == 1
    assert rig.shown == rig.buffer.spans
    assert [span.project for span in rig.buffer.spans] == ["shop"] * 2 + ["depot"] * 3
    assert rig.outcomes() == {"accepted": 2, "malformed": 1}
    assert rig.total("received_bytes") == len(request_of(2)) + len(request_of(3)) + 7
    rig.buffer.refuse_next = 1
    taken = rig.intake.take_many([bodies[0], bodies[2]], face="http")
    assert [one.refused for one in taken if isinstance(one, Taken)] == [5, 5]
    assert rig.outcomes() == {"accepted": 2, "malformed": 1, "refused": 2}
