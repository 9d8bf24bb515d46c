"""Columns of payloads (otlp/columns.py) say what the payloads' spans say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
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
    status_text=texts,
    remote_parent=st.booleans(),
    thread_id=st.just(0) | int64,
    thread_name=texts,
    task_name=texts,
)


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


@settings(max_examples=100, deadline=None)
@given(spans)
def test_a_span_comes_back_as_it_went(span: Span) -> None:
    (received,) = read_payloads([payload_of(span, {})])
    parent = span.parent_span_id if span.parent_span_id != span.span_id else 0
    expected = msgspec.structs.replace(
        span,
        parent_span_id=parent,
        remote_parent=span.remote_parent and parent != 0,
        end_ns=max(span.start_ns, span.end_ns or 0),
    )
    assert plain(received.span) == plain(expected)


#: Whatever a sender may send, as far as a payload holds it.
sent_spans = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.integers(0, 9),
        "flags": st.integers(0, (1 << 32) - 1) | st.sampled_from([0, 1, 0x100, 0x300, 0x301]),
        "start_time_unix_nano": st.integers(0, (1 << 64) - 1),
        "end_time_unix_nano": st.integers(0, (1 << 64) - 1),
        "parent_span_id": st.sampled_from([b"", bytes(8), b"\2" * 8, b"\3" * 8]),
        "status": st.fixed_dictionaries({"code": st.integers(0, 9), "message": texts}),
        "events": st.lists(
            st.fixed_dictionaries({"time_unix_nano": st.integers(0, (1 << 64) - 1)}), max_size=2
        ),
        "attributes": st.lists(
            st.fixed_dictionaries(
                {
                    "key": st.sampled_from(
                        ["thread.id", "thread.name", "afterglow.task.name", "afterglow.status_text"]
                    ),
                    "value": st.sampled_from(
                        [{}, {"int_value": 7}, {"string_value": "x"}, {"bool_value": True}]
                    ),
                }
            ),
            max_size=4,
        ),
    },
)


@settings(max_examples=200, deadline=None)
@given(sent_spans)
def test_whatever_is_sent_has_the_same_rows_as_of_spans(fields: dict[str, Any]) -> None:
    payload = odd(**fields)
    ((got,), _), (same,) = received_rows("p", [payload], received_process), read_payloads([payload])
    expected = rows_of_spans([same.span])
    expected.extras = got.rows.extras | expected.extras
    expected.events = {row: list(some) for row, some in expected.events.items()}
    assert plain(got.rows) == plain(expected)


def test_a_store_without_columns_for_threads_keeps_the_attributes() -> None:
    span = Span(
        trace_id=1, span_id=2, name="n", start_ns=1, end_ns=2, thread_id=5, thread_name="main",
        task_name="t", status_text="odd",
    )  # fmt: skip
    (columns,), _ = read_columns([payload_of(span, {})], encode_attributes, keep_own=True)
    assert columns.thread_id == [0]
    assert msgspec.json.decode(columns.attributes[0]) == {
        "thread.id": 5, "thread.name": "main", "afterglow.task.name": "t",
        "afterglow.status_text": "odd",
    }  # fmt: skip


def test_what_otlp_has_not_is_cut_or_becomes_text() -> None:
    span = Span(
        trace_id=1, span_id=2, name="\ud800", start_ns=-5, end_ns=1 << 70, thread_id=1 << 63,
        attributes={"wide": 1 << 64, "thread.name": "own", "text": "\ud800", "odd": {1}},
        thread_name="main", events=(Event("e", -1, {}, -1),), dropped_links=1 << 40,
    )  # fmt: skip
    (received,) = read_payloads([payload_of(span, {"pid": 1 << 63})])
    read = received.span
    assert (read.name, read.start_ns, read.end_ns) == ("?", 0, (1 << 63) - 1)
    assert read.attributes == {"wide": str(1 << 64), "text": "?", "odd": "{1}"}
    # An attribute of the program's own by that name is what is sent.
    assert (read.thread_id, read.thread_name) == (-(1 << 63), "own")
    assert (read.events[0].time_ns, read.events[0].dropped_attributes) == (0, 0)
    assert read.dropped_links == (1 << 32) - 1
    assert received.resource == {"pid": str(1 << 63)}
    with pytest.raises(ValueError, match="ended"):
        payload_of(msgspec.structs.replace(span, end_ns=None), {})


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
