"""OTLP's JSON as protobuf: ids are hexadecimal digits, 64-bit numbers may be texts, enums too.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. What is not known is ignored.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import EncodeError
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from afterglow.config.otlp import OtlpConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.otlp.splice import field

__all__ = ["parse_json"]

_KINDS: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
_STATUSES: Final = {f"STATUS_CODE_{name}": n for n, name in enumerate(("UNSET", "OK", "ERROR"))}
_LONGEST_ID: Final = 64

Number = int | str | float | None


class _Struct(msgspec.Struct, rename="camel"):
    pass


class _Value(_Struct):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Number = None
    double_value: Number = None
    array_value: _Array | None = None
    kvlist_value: _Pairs | None = None
    bytes_value: str | None = None


class _Array(_Struct):
    values: list[_Value | None] | None = None


class _Pair(_Struct):
    key: str = ""
    value: _Value | None = None


class _Pairs(_Struct):
    values: list[_Pair] | None = None


class _Event(_Struct):
    time_unix_nano: Number = None
    name: str | None = None
    attributes: list[_Pair] | None = None
    dropped_attributes_count: Number = None


class _Link(_Struct):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    attributes: list[_Pair] | None = None
    dropped_attributes_count: Number = None
    flags: Number = None


class _Status(_Struct):
    message: str | None = None
    code: Number = None


class _Span(_Struct):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    flags: Number = None
    name: str | None = None
    kind: Number = None
    start_time_unix_nano: Number = None
    end_time_unix_nano: Number = None
    attributes: list[_Pair] | None = None
    dropped_attributes_count: Number = None
    events: list[_Event] | None = None
    dropped_events_count: Number = None
    links: list[_Link] | None = None
    dropped_links_count: Number = None
    status: _Status | None = None


class _Scope(_Struct):
    name: str | None = None
    version: str | None = None
    attributes: list[_Pair] | None = None
    dropped_attributes_count: Number = None


class _ScopeSpans(_Struct):
    scope: _Scope | None = None
    #: Decoded one by one: what is not yet needed stays text.
    spans: list[msgspec.Raw] | None = None
    schema_url: str | None = None


class _Resource(_Struct):
    attributes: list[_Pair] | None = None
    dropped_attributes_count: Number = None


class _ResourceSpans(_Struct):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None
    schema_url: str | None = None


class _Request(_Struct):
    resource_spans: list[_ResourceSpans] | None = None


_NOTHING: Final = _Value()
_decoder = msgspec.json.Decoder(_Request)
_span_decoder = msgspec.json.Decoder(_Span)


def parse_json(body: bytes, config: OtlpConfig) -> bytes:
    """The same request as protobuf. Raises MalformedOtlpError, OtlpLimitError."""
    if _marks(body) > config.max_json_nodes:
        raise OtlpLimitError(
            f"the JSON has more than {config.max_json_nodes:,} brackets and commas: "
            "send fewer spans at once"
        )
    try:
        document = _decoder.decode(body)
        n_spans = sum(
            len(scope.spans or ())
            for found in document.resource_spans or ()
            for scope in found.scope_spans or ()
        )
        if n_spans > config.max_spans:
            raise OtlpLimitError(
                f"the request has {n_spans:,} spans, and may have {config.max_spans:,}: "
                "send fewer at once"
            )
        return _Builder(config).request(document)
    except RecursionError:
        raise OtlpLimitError("the JSON is nested too deeply") from None
    except (
        msgspec.DecodeError, EncodeError, ValueError, TypeError, OverflowError,
    ) as error:  # fmt: skip
        raise MalformedOtlpError(f"the body is no OTLP trace request in JSON: {error}") from None


def _marks(text: bytes) -> int:
    """No fewer than the values in it: each but the first is behind one of these."""
    return text.count(b"{") + text.count(b"[") + text.count(b",")


class _Builder:
    def __init__(self, config: OtlpConfig) -> None:
        self._max_depth = config.max_depth
        self._max_span_bytes = config.max_span_bytes
        self._max_span_fields = config.max_span_fields

    def request(self, document: _Request) -> bytes:
        out: list[bytes] = []
        for resource_spans in document.resource_spans or ():
            made = ResourceSpans(schema_url=resource_spans.schema_url or "")
            if (resource := resource_spans.resource) is not None:
                self._pairs(made.resource.attributes, resource.attributes)
                made.resource.dropped_attributes_count = _int(resource.dropped_attributes_count)
            inner = [made.SerializeToString()]
            inner += [field(0x12, self._scope(scope)) for scope in resource_spans.scope_spans or ()]
            out.append(field(0x0A, b"".join(inner)))
        return b"".join(out)

    def _scope(self, scope_spans: _ScopeSpans) -> bytes:
        made = ScopeSpans(schema_url=scope_spans.schema_url or "")
        if (scope := scope_spans.scope) is not None:
            made.scope.name, made.scope.version = scope.name or "", scope.version or ""
            self._pairs(made.scope.attributes, scope.attributes)
            made.scope.dropped_attributes_count = _int(scope.dropped_attributes_count)
        inner = [made.SerializeToString()]
        for raw in scope_spans.spans or ():
            text = bytes(raw)
            if len(text) > self._max_span_bytes or _marks(text) > self._max_span_fields:
                raise OtlpLimitError(
                    f"a span has more than {self._max_span_bytes:,} bytes or "
                    f"{self._max_span_fields:,} values"
                )
            span = Span()
            self._span(span, _span_decoder.decode(text))
            inner.append(field(0x12, span.SerializeToString()))
        return b"".join(inner)

    def _span(self, out: Any, span: _Span) -> None:
        out.trace_id = _id(span.trace_id)
        out.span_id = _id(span.span_id)
        out.parent_span_id = _id(span.parent_span_id)
        out.trace_state = span.trace_state or ""
        out.flags = _int(span.flags)
        out.name = span.name or ""
        out.kind = _int(span.kind, _KINDS)
        out.start_time_unix_nano = _int(span.start_time_unix_nano)
        out.end_time_unix_nano = _int(span.end_time_unix_nano)
        self._pairs(out.attributes, span.attributes)
        out.dropped_attributes_count = _int(span.dropped_attributes_count)
        out.dropped_events_count = _int(span.dropped_events_count)
        out.dropped_links_count = _int(span.dropped_links_count)
        for event in span.events or ():
            made = out.events.add(time_unix_nano=_int(event.time_unix_nano), name=event.name or "")
            self._pairs(made.attributes, event.attributes)
            made.dropped_attributes_count = _int(event.dropped_attributes_count)
        for link in span.links or ():
            linked = out.links.add(trace_id=_id(link.trace_id), span_id=_id(link.span_id))
            linked.trace_state = link.trace_state or ""
            linked.flags = _int(link.flags)
            self._pairs(linked.attributes, link.attributes)
            linked.dropped_attributes_count = _int(link.dropped_attributes_count)
        if span.status is not None:
            out.status.SetInParent()
            out.status.message = span.status.message or ""
            out.status.code = _int(span.status.code, _STATUSES)

    def _pairs(self, out: Any, pairs: Sequence[_Pair] | None, depth: int = 0) -> None:
        for pair in pairs or ():
            made = out.add(key=pair.key)
            if pair.value is not None:
                made.value.SetInParent()
                self._value(made.value, pair.value, depth)

    def _value(self, out: Any, value: _Value, depth: int) -> None:
        if depth > self._max_depth:
            raise OtlpLimitError(f"a value is nested deeper than {self._max_depth} levels")
        if value.string_value is not None:
            out.string_value = value.string_value
        elif value.bool_value is not None:
            out.bool_value = value.bool_value
        elif value.int_value is not None:
            out.int_value = _int(value.int_value)
        elif value.double_value is not None:
            out.double_value = _float(value.double_value)
        elif value.bytes_value is not None:
            out.bytes_value = _bytes(value.bytes_value)
        elif value.array_value is not None:
            out.array_value.SetInParent()
            for item in value.array_value.values or ():
                self._value(out.array_value.values.add(), item or _NOTHING, depth + 1)
        elif value.kvlist_value is not None:
            out.kvlist_value.SetInParent()
            self._pairs(out.kvlist_value.values, value.kvlist_value.values, depth + 1)


def _int(value: Number, names: dict[str, int] | None = None) -> int:
    if value is None:
        return 0
    if names is not None and isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _float(value: Number) -> float:
    if isinstance(value, str):
        named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        return named[value] if value in named else float(value)
    return 0.0 if value is None else float(value)


def _id(text: str | None) -> bytes:
    """Ids that are no hexadecimal digits stay wrong: the buffer counts their spans."""
    if not text:
        return b""
    try:
        return bytes.fromhex(text) if text.isalnum() else text.encode()[:_LONGEST_ID]
    except ValueError:
        return text.encode()[:_LONGEST_ID]


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(f"a value is no base64: {error}") from None
