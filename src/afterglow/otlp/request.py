"""A request of OTLP, cut into spans that a buffer takes: limited, scrubbed, each on its own."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Self

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from afterglow.config.otlp import OtlpConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ledger import OtlpChange
from afterglow.model.segment import BufferedSpan
from afterglow.otlp.from_json import parse_json
from afterglow.otlp.limits import cut_lists, cut_values
from afterglow.otlp.scrub import Scrubber
from afterglow.otlp.splice import field

__all__ = ["OtlpRequest", "OtlpRules", "read_request"]

_SERVER, _CONSUMER = 2, 5
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_ROOT_ATTRIBUTE: Final = "afterglow.segment_root"
_ROOT_BYTES: Final = _ROOT_ATTRIBUTE.encode()
_RESOURCE = _SCOPE = 0x0A
_SCOPE_SPANS = _SPANS = 0x12
_SCHEMA_URL: Final = 0x1A


class OtlpRules(msgspec.Struct, frozen=True):
    """What `read_request` holds a request against; made of settings by `of`."""

    config: OtlpConfig
    scrubber: Scrubber

    @classmethod
    def of(cls, config: OtlpConfig) -> Self:
        """The rules that settings say."""
        return cls(config, Scrubber((*config.scrub, *config.scrub_more)))


class OtlpRequest(msgspec.Struct):
    """The spans of a request, and what was changed in them."""

    spans: list[BufferedSpan]
    changed: dict[OtlpChange, int] = {}


def read_request(body: bytes, *, json: bool, project: str, rules: OtlpRules) -> OtlpRequest:
    """The spans of a body: an ExportTraceServiceRequest, as protobuf or in OTLP's JSON.

    The payload of each is a ResourceSpans message that holds it alone. Spans with ids that are none
    stay as they came: the buffer counts them. Raises MalformedOtlpError, OtlpLimitError.
    """
    if json:
        request = parse_json(body, rules.config.max_depth)
        scrubs = True
    else:
        request = _parse(body)
        scrubs = rules.scrubber.may_be_in(body)
    n_spans = sum(
        len(scope.spans) for found in request.resource_spans for scope in found.scope_spans
    )
    if n_spans > rules.config.max_spans:
        raise OtlpLimitError(
            f"the request has {n_spans:,} spans, and may have {rules.config.max_spans:,}"
        )
    return _Cutter(project, rules, scrubs, marks=_ROOT_BYTES in body).cut(request)


def _parse(body: bytes) -> ExportTraceServiceRequest:
    """Protobuf itself refuses what is nested in over 100 messages, some 30 levels of values."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise MalformedOtlpError(
            "the body is no OTLP trace request in protobuf, or is not whole"
        ) from None
    return request


class _Cutter:
    """Cuts one request into spans."""

    def __init__(self, project: str, rules: OtlpRules, scrubs: bool, *, marks: bool) -> None:
        self._project = project
        self._config = rules.config
        self._scrubber = rules.scrubber
        self._scrubs = scrubs
        #: Whether spans say themselves that they are roots of segments.
        self._marks = marks
        self._changed: Counter[OtlpChange] = Counter()

    def cut(self, request: ExportTraceServiceRequest) -> OtlpRequest:
        spans: list[BufferedSpan] = []
        for resource_spans in request.resource_spans:
            self._clean(resource_spans.resource.attributes)
            before = field(_RESOURCE, resource_spans.resource.SerializeToString())
            behind = _url(resource_spans.schema_url)
            for scope_spans in resource_spans.scope_spans:
                self._clean(scope_spans.scope.attributes)
                scope = field(_SCOPE, scope_spans.scope.SerializeToString())
                url = _url(scope_spans.schema_url)
                for span in scope_spans.spans:
                    inner = field(_SPANS, self._encoded(span))
                    payload = before + field(_SCOPE_SPANS, scope + inner + url) + behind
                    spans.append(self._buffered(span, payload))
        return OtlpRequest(spans, dict(self._changed))

    def _clean(self, attributes: Any) -> None:
        if self._scrubs:
            self._count("scrubbed", self._scrubber.scrub(attributes))
        self._count("values_truncated", cut_values(attributes, self._config.max_value_length))

    def _encoded(self, span: Any) -> bytes:
        config = self._config
        if len(span.attributes) > config.max_attributes or span.events or span.links:
            self._count("attributes_dropped", cut_lists(span, config))
        if self._scrubs:
            self._count("scrubbed", self._scrubber.scrub(span.attributes))
            for one in (*span.events, *span.links):
                self._count("scrubbed", self._scrubber.scrub(one.attributes))
        encoded: bytes = span.SerializeToString()
        if len(encoded) <= config.max_value_length:
            return encoded  # nothing in it can be longer
        cut = cut_values(span.attributes, config.max_value_length)
        for one in (*span.events, *span.links):
            cut += cut_values(one.attributes, config.max_value_length)
        if cut:
            self._count("values_truncated", cut)
            encoded = span.SerializeToString()
        return encoded

    def _buffered(self, span: Any, payload: bytes) -> BufferedSpan:
        parent = span.parent_span_id
        # Eight zeros are how some say that there is none.
        if not parent or not any(parent):
            return BufferedSpan(self._project, span.trace_id, span.span_id, None, False, payload)
        is_root = _is_entry(span) or (self._marks and _is_marked(span))
        return BufferedSpan(self._project, span.trace_id, span.span_id, parent, is_root, payload)

    def _count(self, kind: OtlpChange, count: int) -> None:
        if count:
            self._changed[kind] += count


def _url(url: str) -> bytes:
    return field(_SCHEMA_URL, url.encode()) if url else b""


def _is_entry(span: Any) -> bool:
    """Whether it begins a service's part of a trace: its parent is in another process."""
    if span.kind not in (_SERVER, _CONSUMER):
        return False
    flags = span.flags
    return not flags & _REMOTE_KNOWN or bool(flags & _REMOTE)


def _is_marked(span: Any) -> bool:
    return any(pair.key == _ROOT_ATTRIBUTE and pair.value.bool_value for pair in span.attributes)
