"""Columns of payloads (otlp/columns.py) say what the payloads' spans say."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.model.span import KINDS, STATUS_CODES, Event, Link, Span
from afterglow.otlp.columns import read_columns
from afterglow.otlp.payload import payload_of, read_payloads
from afterglow.sink.project_files import received_rows
from afterglow.store.attributes import encode_attributes
from afterglow.store.received import received_process
from afterglow.store.rows import rows_of_spans

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
scalars = texts | st.booleans() | int64 | st.floats() | st.binary(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(texts, values, max_size=4)
times = st.integers(0, (1 << 63) - 1)
counts = st.integers(0, (1 << 32) - 1)
trace_ids = st.integers(1, (1 << 128) - 1)
span_ids = st.integers(1, (1 << 64) - 1)
events = st.lists(st.builds(Event, texts, times, attributes, counts), max_size=2)
links = st.lists(st.builds(Link, trace_ids, span_ids, texts, attributes, counts), max_size=2)
spans = st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=st.just(0) | span_ids,
    name=texts,
    kind=st.sampled_from(KINDS),
    start_ns=times,
    end_ns=times,
    attributes=attributes,
    events=events.map(tuple),
    links=links.map(tuple),
    status=st.sampled_from(STATUS_CODES),
    status_description=texts,
    trace_state=texts,
    trace_flags=st.integers(0, 255),
    scope=texts,
    scope_version=texts,
    dropped_attributes=counts,
    dropped_events=counts,
    dropped_links=counts,
    remote_parent=st.booleans(),
    # One that names itself as its parent has none: columns say that the parent is not remote, too.
).filter(lambda span: span.parent_span_id != span.span_id)


def plain(rows: Any) -> Any:
    """As values that are equal where NaN is in both."""
    return repr(msgspec.to_builtins(rows))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(spans, st.sampled_from(["a", "b"])), min_size=1, max_size=5))
def test_the_same_rows_as_of_spans(sent: list[tuple[Span, str]]) -> None:
    payloads = [payload_of(span, {"service.name": service}) for span, service in sent]
    by_resource: dict[bytes, list[Any]] = {}
    for received in read_payloads(payloads):
        by_resource.setdefault(received.resource_key, []).append(received)
    found, unreadable = received_rows("p", payloads, received_process)
    assert unreadable == []
    for got, same in zip(found, by_resource.values(), strict=True):
        expected = rows_of_spans([one.span for one in same])
        expected.extras = got.rows.extras | expected.extras  # ours has typical ones, too
        expected.events = {row: list(some) for row, some in expected.events.items()}
        expected.links = {row: list(some) for row, some in expected.links.items()}
        assert plain(got.rows) == plain(expected)
        assert got.process.resource == same[0].resource


def odd(**fields: Any) -> bytes:
    message = ResourceSpans()
    message.scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, **fields)
    return message.SerializeToString()


def test_numbers_that_no_table_takes_are_cut() -> None:
    most, largest = (1 << 64) - 1, (1 << 63) - 1
    payloads = [
        odd(start_time_unix_nano=most, end_time_unix_nano=most),
        odd(start_time_unix_nano=5, end_time_unix_nano=0),
        odd(kind=99, status={"code": 77}, parent_span_id=bytes(8)),
        odd(parent_span_id=b"\2" * 8, kind=2),
    ]
    (columns,), unreadable = read_columns(payloads, encode_attributes)
    assert unreadable == []
    assert columns.start_ns[:2] == [largest, 5] and columns.end_ns[:2] == [largest, 5]
    assert columns.duration_ns == [0, 0, 0, 0]
    assert columns.extras[2][:2] == ("internal", "unset")
    assert columns.parent_span_id == [None] * 4
    assert columns.extras[3][11] is False


def test_values_that_json_has_not() -> None:
    nan, nothing = AnyValue(double_value=float("nan")), AnyValue()
    attributes = [{"key": "nan", "value": nan}, {"key": "none", "value": nothing}]
    (columns,), _ = read_columns([odd(attributes=attributes)], encode_attributes)
    assert columns.attributes == ['{"nan":{"$float":"nan"},"none":null}']


def test_which_payloads_cannot_be_read() -> None:
    columns, unreadable = read_columns([b"\xff", odd(), b""], encode_attributes)
    assert unreadable == [0, 2] and [len(c) for c in columns] == [1]
