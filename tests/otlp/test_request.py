"""Requests are cut into spans, one payload each, and nothing of them is lost or mixed up."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from afterglow.config import OtlpConfig
from afterglow.errors import MalformedOtlpError, OtlpError, OtlpLimitError
from afterglow.otlp.payload import to_request, to_request_json
from afterglow.otlp.request import OtlpRequest, OtlpRules, read_request
from afterglow.otlp.splice import field
from tests.otlp.requests import as_json, requests

ALL = OtlpConfig(scrub=("!",))


def read(body: bytes, config: OtlpConfig = ALL, *, json: bool = False) -> OtlpRequest:
    return read_request(body, json=json, project="p", rules=OtlpRules.of(config))


def one(**fields: object) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = b"t" * 16, b"s" * 8
    for name, value in fields.items():
        setattr(span, name, value)
    return request


def only_span(found: OtlpRequest) -> Span:
    (span,) = found.spans
    return ResourceSpans.FromString(span.payload).scope_spans[0].spans[0]


def flat(request: ExportTraceServiceRequest) -> list[bytes]:
    """Each span with its resource and scope, in order."""
    return [
        b"|".join(
            part.SerializeToString(deterministic=True)
            for part in (found.resource, scope.scope, span)
        )
        + f"|{found.schema_url}|{scope.schema_url}".encode()
        for found in request.resource_spans
        for scope in found.scope_spans
        for span in scope.spans
    ]


# The first one is slow to make: strategies are built, and on a busy machine that is a second.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_what_is_put_together_again_is_what_came(request: ExportTraceServiceRequest) -> None:
    spans = read(request.SerializeToString()).spans
    again = ExportTraceServiceRequest.FromString(to_request(s.payload for s in spans))
    assert flat(again) == flat(request)
    owns = [
        own for found in again.resource_spans for scope in found.scope_spans for own in scope.spans
    ]
    for span, own in zip(spans, owns, strict=True):
        assert (span.trace_id, span.span_id) == (own.trace_id, own.span_id)
        assert span.parent_span_id == (
            (own.parent_span_id.strip(b"\0") and own.parent_span_id) or None
        )


@given(requests(), st.booleans())
def test_json_is_the_same_request(request: ExportTraceServiceRequest, texts: bool) -> None:
    from_json = read(as_json(request, numbers_as_text=texts), json=True).spans
    assert from_json == read(request.SerializeToString()).spans


@given(requests())
def test_json_out_comes_in_again(request: ExportTraceServiceRequest) -> None:
    spans = read(request.SerializeToString()).spans
    assert read(to_request_json(s.payload for s in spans), json=True).spans == spans


def test_fields_of_a_later_version_stay_on_every_level() -> None:
    new = b"\xfa\x3e\x03"
    span = only_span(read(one(name="n").SerializeToString())).SerializeToString() + new + b"one"
    resource = field(0x0A, new + b"two")
    scope_spans = new + b"six" + field(0x0A, new + b"ten") + field(0x12, span) + new + b"end"
    body = field(0x0A, resource + field(0x12, scope_spans) + new + b"red")
    for config in (ALL, OtlpConfig(max_value_length=1, max_attributes=0)):
        payload = read(body, config).spans[0].payload
        for value in (b"one", b"two", b"six", b"ten", b"end", b"red"):
            assert payload.count(new + value) == 1


@given(requests())
def test_a_span_that_is_not_changed_keeps_its_bytes(request: ExportTraceServiceRequest) -> None:
    sent = [
        span.SerializeToString()
        for found in request.resource_spans
        for scope in found.scope_spans
        for span in scope.spans
    ]
    for span, encoded in zip(read(request.SerializeToString()).spans, sent, strict=True):
        assert span.payload.endswith(encoded)


@pytest.mark.parametrize(
    ("kind", "flags", "parent", "is_root"),
    [
        (2, 0, b"p" * 8, True),  # a server whose sender does not say where its parent is
        (5, 0x300, b"p" * 8, True),
        (2, 0x100, b"p" * 8, False),  # the parent is in the same process
        (3, 0x300, b"p" * 8, False),
        (2, 0, b"", False),  # a root anyway
    ],
)
def test_entry_spans_are_roots_of_segments(
    kind: int, flags: int, parent: bytes, is_root: bool
) -> None:
    request = one(kind=kind, flags=flags, parent_span_id=parent)
    (span,) = read(request.SerializeToString()).spans
    assert span.is_segment_root is is_root


def test_a_span_may_say_that_it_is_the_root_of_a_segment() -> None:
    request = one(parent_span_id=b"p" * 8)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="afterglow.segment_root").value.bool_value = True
    assert read(request.SerializeToString()).spans[0].is_segment_root


def test_eight_zeros_are_no_parent() -> None:
    (span,) = read(one(parent_span_id=bytes(8)).SerializeToString()).spans
    assert span.parent_span_id is None


# --- limits -------------------------------------------------------------------------------


def test_too_many_spans_are_refused_as_a_whole() -> None:
    request = one()
    request.resource_spans[0].scope_spans[0].spans.add()
    config = OtlpConfig(max_spans=1)
    with pytest.raises(OtlpLimitError, match="more than 1 parts: send fewer spans"):
        read(request.SerializeToString(), config)
    with pytest.raises(OtlpLimitError, match="2 spans, and may have 1"):
        read(as_json(request), config, json=True)
    request = one()
    request.MergeFrom(one())
    for beyond in (request, one()):
        if beyond is not request:
            beyond.resource_spans[0].scope_spans.add().spans.add()
        for json in (False, True):
            body = as_json(beyond) if json else beyond.SerializeToString()
            with pytest.raises(OtlpLimitError):
                read(body, config, json=json)


def test_lists_that_are_too_long_are_cut_and_counted() -> None:
    request = one()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.dropped_attributes_count = (1 << 32) - 2
    for n in range(5):
        span.attributes.add(key=f"k{n}").value.int_value = n
        span.events.add(name=f"e{n}").attributes.add(key="a")
        span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    config = OtlpConfig(max_attributes=2, max_events=3, max_links=1)
    found = read(request.SerializeToString(), config)
    cut = only_span(found)
    assert [pair.key for pair in cut.attributes] == ["k0", "k1"]
    assert (len(cut.events), len(cut.links)) == (3, 1)
    assert cut.dropped_attributes_count == (1 << 32) - 1  # 32 bits have no more room
    assert (cut.dropped_events_count, cut.dropped_links_count) == (2, 4)
    assert found.changed == {"attributes_dropped": 3 + 2 + 4}


def test_events_and_links_are_cut_in_a_span_that_has_few_attributes() -> None:
    request = one()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for made in (span.events.add(name="e"), span.links.add(trace_id=b"l" * 16)):
        for n in range(3):
            made.attributes.add(key=f"k{n}")
    span.events.add(name="beyond")
    found = read(request.SerializeToString(), OtlpConfig(max_attributes=1, max_events=1))
    cut = only_span(found)
    assert [(len(e.attributes), e.dropped_attributes_count) for e in cut.events] == [(1, 2)]
    assert [(len(k.attributes), k.dropped_attributes_count) for k in cut.links] == [(1, 2)]
    assert found.changed == {"attributes_dropped": 2 + 2 + 1}


def test_values_that_are_too_long_are_cut_wherever_they_are() -> None:
    request = one()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="text").value.string_value = "ä" * 20
    span.attributes.add(key="bytes").value.bytes_value = b"x" * 20
    inner = span.attributes.add(key="list").value.array_value.values.add()
    inner.kvlist_value.values.add(key="deep").value.string_value = "y" * 20
    span.events.add().attributes.add(key="e").value.string_value = "z" * 20
    request.resource_spans[0].resource.attributes.add(key="r").value.string_value = "r" * 20
    found = read(request.SerializeToString(), OtlpConfig(max_value_length=10))
    cut = only_span(found)
    assert cut.attributes[0].value.string_value == "ä" * 10
    assert cut.attributes[1].value.bytes_value == b"x" * 10
    nested = cut.attributes[2].value.array_value.values[0].kvlist_value.values[0]
    assert nested.value.string_value == "y" * 10
    assert cut.events[0].attributes[0].value.string_value == "z" * 10
    assert found.changed == {"values_truncated": 5}


# --- what nobody should send ---------------------------------------------------------------


@settings(max_examples=300)
@given(requests(), st.data())
def test_damaged_protobuf_is_refused_or_read(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    with contextlib.suppress(OtlpError):
        read(bytes(body), OtlpConfig())


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_whatever_bytes_come_only_our_errors_leave(body: bytes, json: bool) -> None:
    with contextlib.suppress(OtlpError):
        read(body, OtlpConfig(), json=json)


@settings(max_examples=200)
@given(requests(), st.data())
def test_damaged_json_is_refused_or_read(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    """Parts of it are replaced by JSON of other types."""
    body = as_json(request).decode()
    found = [at for at, character in enumerate(body) if character in '"[{0123456789']
    if found:
        at = data.draw(st.sampled_from(found))
        other = data.draw(
            st.sampled_from(["null", "true", "-1", "1e400", "[]", "{}", '"x"', "1.5", "NaN", '"'])
        )
        body = body[:at] + other + body[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(OtlpError):
        read(body.encode(), OtlpConfig(), json=True)


def nested_protobuf(depth: int) -> bytes:
    """A span with one attribute, which is a list in a list in a list ..."""
    value = b"\x10\x01"
    for _ in range(depth):
        value = field(0x2A, field(0x0A, value))
    span = field(0x0A, b"t" * 16) + field(0x12, b"s" * 8)
    span += field(0x4A, field(0x0A, b"k") + field(0x12, value))
    return field(0x0A, field(0x12, field(0x12, span)))


def nested_json(depth: int) -> bytes:
    value = '{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth
    return (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":'
        + value + "}]}]}]}]}"
    ).encode()  # fmt: skip


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize("most", [1, 20, 32])
def test_what_is_nested_too_deeply_is_refused(json: bool, most: int) -> None:
    body = nested_json if json else nested_protobuf
    config = OtlpConfig(max_depth=most)
    assert read(body(most), config, json=json).spans
    for depth in (most + 1, 60, 900, 5_000, 20_000):
        with pytest.raises(OtlpLimitError, match="deep"):
            read(body(depth), config, json=json)


def test_longer_forms_of_tags_hide_no_depth() -> None:
    value = b"\x10\x01"
    for _ in range(33):
        inner = field(0x0A, value)
        value = b"\xaa\x00" + field(0, inner)[1:]
    span = field(0x4A, field(0x12, value))
    with pytest.raises(OtlpLimitError, match="deeper than 32"):
        read(field(0x0A, field(0x12, field(0x12, span))), OtlpConfig())


@pytest.mark.parametrize(
    ("span", "why"),
    [
        (b"\x2a\x01\xff", "a Span of the request has a text that is no UTF-8"),
        (b"\x2a\x05\xff", "a Span of the request is no protobuf of OTLP"),
    ],
)
def test_a_sender_is_told_what_is_wrong(span: bytes, why: str) -> None:
    with pytest.raises(MalformedOtlpError, match=why):
        read(field(0x0A, field(0x12, field(0x12, span))))


def test_resources_and_scopes_have_no_more_attributes_than_spans() -> None:
    request = one()
    found = request.resource_spans[0]
    for made in (found.resource, found.scope_spans[0].scope):
        for n in range(3):
            made.attributes.add(key=f"k{n}")
    read_back = read(request.SerializeToString(), OtlpConfig(max_attributes=1))
    cut = ResourceSpans.FromString(read_back.spans[0].payload)
    for made in (cut.resource, cut.scope_spans[0].scope):
        assert (len(made.attributes), made.dropped_attributes_count) == (1, 2)
    assert read_back.changed == {"attributes_dropped": 4}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"resourceSpans": 3}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 3}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e300}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "'
        + b"9" * 100_000
        + b'"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": "NO_KIND"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\xff"}]}]}]}',
    ],
)
def test_json_that_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedOtlpError, match="JSON"):
        read(body, json=True)


def test_json_may_say_what_we_do_not_know_and_names_of_enums() -> None:
    body = (
        b'{"later": [1], "resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": '
        b'"5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "later": {"a": 1}, '
        b'"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}}]}]}]}'
    )
    found = read(body, json=True)
    assert found.spans[0].trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    span = only_span(found)
    assert (span.kind, span.status.code) == (2, 2)


def test_ids_that_are_none_stay_wrong_for_the_buffer_to_count() -> None:
    body = (
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz", "spanId": "12"},'
        b' {"traceId": "", "spanId": null}]}]}]}'
    )
    first, second = read(body, json=True).spans
    assert (len(first.trace_id), len(first.span_id)) == (3, 1)
    assert (second.trace_id, second.span_id) == (b"", b"")
