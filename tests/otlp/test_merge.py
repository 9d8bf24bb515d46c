"""Payloads put together: the same spans of the same resources and scopes, said once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.otlp.payload import to_request
from afterglow.otlp.splice import field


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """One span of few resources and scopes, the parts in any order; sometimes none, or two."""
    head = [draw(st.sampled_from([b"", b"\x0a\0", b"\x0a\4\x0a\2\x0a\0", b"\x7a\1x"]))]
    head += draw(st.sampled_from([[], [b"\x1a\1u"], [b"\x1a\1v"]]))
    scope = [draw(st.sampled_from([b"", b"\x0a\3\x0a\1s", b"\x0a\3\x0a\1t", b"\x7a\1y"]))]
    spans = [
        field(0x12, b"\x2a" + bytes([len(name)]) + name)
        for name in draw(st.lists(st.sampled_from([b"a", b"b" * 120]), min_size=1, max_size=1)
                         | st.lists(st.just(b"c"), max_size=2))
    ]  # fmt: skip
    inner = field(0x12, b"".join(draw(st.permutations([*scope, *spans]))))
    inners = draw(st.sampled_from([[inner]] * 6 + [[], [inner, inner]]))
    return b"".join(draw(st.permutations([*head, *inners])))


def flat(request: ExportTraceServiceRequest) -> list[tuple[bytes, ...]]:
    """Each span with what is said of it beside it."""
    found = []
    for resource in request.resource_spans:
        scopes = list(resource.scope_spans)
        resource.ClearField("scope_spans")
        for scope in scopes:
            spans = list(scope.spans)
            scope.ClearField("spans")
            found += [
                tuple(part.SerializeToString() for part in (resource, scope, span))
                for span in spans
            ]
    return found


@given(st.lists(payloads(), max_size=8))
def test_what_is_put_together_says_the_same_of_each_span(parts: list[bytes]) -> None:
    request = ExportTraceServiceRequest.FromString(to_request(parts))
    one_by_one = ExportTraceServiceRequest()
    for payload in parts:
        one_by_one.resource_spans.append(ResourceSpans.FromString(payload))
    assert flat(request) == flat(one_by_one)


def test_neighbours_share_their_resource_and_scope() -> None:
    def payload(resource: bytes, scope: bytes, span: bytes) -> bytes:
        inner = field(0x12, field(0x0A, field(0x0A, scope)) + field(0x12, field(0x2A, span)))
        return field(0x0A, field(0x0A, field(0x0A, resource))) + inner

    sent = [
        payload(b"r", b"s", b"1"), payload(b"r", b"s", b"2" * 200), payload(b"r", b"t", b"3"),
        payload(b"r", b"t", b"4"), payload(b"q", b"t", b"5"), payload(b"r", b"s", b"6"),
    ]  # fmt: skip
    request = ExportTraceServiceRequest.FromString(to_request(sent))
    assert [
        [[span.name[0] for span in scope.spans] for scope in found.scope_spans]
        for found in request.resource_spans
    ] == [[["1", "2"], ["3", "4"]], [["5"]], [["6"]]]


def test_what_is_no_payload_is_sent_as_it_is() -> None:
    assert to_request([b"\xff", b"\x12\x09"]) == b"\x0a\1\xff\x0a\2\x12\x09"
