"""The contract of SegmentBuffer for callers who are mistaken: one line, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from afterglow.errors import SettingError, SpanBufferError
from tests.contracts.segment_backends import Backend
from tests.contracts.test_segment_buffer import CONFIG, T0, S, span, take


@pytest.fixture
def buffer(backend: Backend) -> Iterator[Any]:
    buffer = backend.new(CONFIG)
    yield buffer
    assert buffer.ledger().balanced
    buffer.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("a text", "is of type str"),
        (None, "is of type NoneType"),
        (span(2)._replace(payload="text"), "has a payload of type str"),  # type: ignore[arg-type]
        (span(2)._replace(span_id="12345678"), "has a span_id of type str"),  # type: ignore[arg-type]
        (span(2)._replace(trace_id="0123456789abcdef"), "has a trace_id of type str"),  # type: ignore[arg-type]
        (span(2)._replace(project=None), "has a project of type NoneType"),  # type: ignore[arg-type]
        (span(2)._replace(parent_span_id=1), "has a parent_span_id of type int"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_span_is_said_in_one_line(buffer: Any, wrong: Any, says: str) -> None:
    with pytest.raises(SpanBufferError, match=f"^span 1 of the batch {says}: add takes"):
        buffer.add([span(1), wrong, span(3)], T0)
    assert buffer.ledger().ingested == 0
    assert take(buffer, T0 + 10 * S) == []


def test_what_is_no_part_is_said_in_one_line(buffer: Any) -> None:
    for give in (buffer.acknowledge, buffer.release):
        with pytest.raises(SpanBufferError, match="take the parts that take_due gave"):
            give([span(1)])


def test_a_part_is_printed_in_one_short_line(buffer: Any) -> None:
    buffer.add([span(1)], T0)
    (part,) = take(buffer, T0 + 10 * S)
    assert repr(part).startswith("SegmentPart(message_id='")
    assert len(repr(part)) < 500


@pytest.mark.parametrize(
    "setting", [{"shards": 0}, {"inline_bytes": -1}, {"lease_s": "soon"}, {"key_prefix": ""}]
)
def test_a_setting_that_cannot_be_is_refused(backend: Backend, setting: dict[str, Any]) -> None:
    """The same for settings that somebody made by hand as for those of the environment."""
    with pytest.raises(SettingError, match=next(iter(setting))):
        backend.new(msgspec.structs.replace(CONFIG, **setting))
