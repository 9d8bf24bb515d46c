"""A request of OTLP, cut into spans that a buffer takes: limited, scrubbed, each on its own."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple, Self

import msgspec
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from afterglow.config.otlp import OtlpConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ledger import OtlpChange
from afterglow.model.segment import BufferedSpan
from afterglow.otlp.from_json import parse_json
from afterglow.otlp.limits import cut_attributes, cut_lists, cut_values
from afterglow.otlp.scrub import Scrubber
from afterglow.otlp.splice import field
from afterglow.otlp.wire import RESOURCE_HEAD, SCOPE_HEAD, SPAN, Kinds, Ruler, split

__all__ = ["OtlpRequest", "OtlpRules", "read_request"]

_SERVER, _CONSUMER = 2, 5
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_ROOT_ATTRIBUTE: Final = "afterglow.segment_root"
_ROOT_BYTES: Final = _ROOT_ATTRIBUTE.encode()
_RESOURCE_SPANS: Final = 0x0A
_SCOPE_SPANS = _SPANS = 0x12


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

    The payload of each is a ResourceSpans message that holds it alone, last. Spans with ids that
    are none stay as they came: the buffer counts them. Raises MalformedOtlpError, OtlpLimitError.
    """
    if json:
        body = parse_json(body, rules.config)
    return _Cutter(project, rules, body).cut(_frames(body, rules.config.max_spans))


class _ScopeFrame(NamedTuple):
    """Where the spans of a scope are in the body, and the rest of the message."""

    head: bytes
    spans: list[tuple[int, int]]


class _ResourceFrame(NamedTuple):
    head: bytes
    scopes: list[_ScopeFrame]


def _frames(body: bytes, max_spans: int) -> list[_ResourceFrame]:
    """How a request is made up: counted, and refused, before anything in it is a message."""
    found: list[_ResourceFrame] = []
    n_scopes = n_spans = 0
    resources, _ = split(body, 0, len(body), _RESOURCE_SPANS, max_spans)
    for at, end in resources:
        inner, head = split(body, at, end, _SCOPE_SPANS, max_spans)
        n_scopes += len(inner)
        if n_scopes > max_spans:
            raise OtlpLimitError(
                f"the request has more than {max_spans:,} scopes: send fewer spans at once"
            )
        scopes: list[_ScopeFrame] = []
        for scope_at, scope_end in inner:
            spans, scope_head = split(body, scope_at, scope_end, _SPANS, max_spans)
            n_spans += len(spans)
            if n_spans > max_spans:
                raise OtlpLimitError(
                    f"the request has more than {max_spans:,} spans: send fewer at once"
                )
            scopes.append(_ScopeFrame(scope_head, spans))
        found.append(_ResourceFrame(head, scopes))
    return found


class _Cutter:
    """Cuts one request into spans; one at a time is a message, the others are bytes."""

    def __init__(self, project: str, rules: OtlpRules, body: bytes) -> None:
        config = rules.config
        self._project = project
        self._config = config
        self._body = body
        self._scrubber = rules.scrubber
        self._scrubs = rules.scrubber.may_be_in(body)
        #: Whether spans say themselves that they are roots of segments.
        self._marks = _ROOT_BYTES in body
        self._ruler = Ruler(config.max_span_bytes, config.max_span_fields, config.max_depth)
        self._changed: Counter[OtlpChange] = Counter()
        self._payload_bytes = 0

    def cut(self, frames: list[_ResourceFrame]) -> OtlpRequest:
        spans: list[BufferedSpan] = []
        body = self._body
        for resource in frames:
            before = self._head(resource.head, RESOURCE_HEAD, ResourceSpans)
            for scope in resource.scopes:
                inner = self._head(scope.head, SCOPE_HEAD, ScopeSpans)
                self._expand(len(before) + len(inner), scope.spans)
                for at, end in scope.spans:
                    spans.append(self._span(before, inner, body[at:end]))
        return OtlpRequest(spans, dict(self._changed))

    def _expand(self, head_bytes: int, spans: list[tuple[int, int]]) -> None:
        """Each span has its resource with it: a large one and many spans are more than came."""
        if spans:
            self._payload_bytes += len(spans) * head_bytes + spans[-1][1] - spans[0][0]
        if self._payload_bytes > self._config.max_payload_bytes:
            raise OtlpLimitError(
                f"the spans have more than {self._config.max_payload_bytes:,} bytes where each is "
                "kept with its resource: send fewer at once"
            )

    def _head(self, encoded: bytes, kinds: Kinds, kind: type[Message]) -> bytes:
        """What a ResourceSpans or ScopeSpans says of all its spans: as it came, or cleaned."""
        if not encoded:
            return encoded
        self._ruler.measure(encoded, kinds)
        head: Any = _parsed(kind, encoded)
        own = head.resource if kind is ResourceSpans else head.scope
        changes = sum(self._changed.values())
        self._count("attributes_dropped", cut_attributes(own, self._config))
        if self._scrubs:
            self._count("scrubbed", self._scrubber.scrub(own.attributes))
        if len(encoded) > self._config.max_value_length:
            cut = cut_values(own.attributes, self._config.max_value_length)
            self._count("values_truncated", cut)
        if sum(self._changed.values()) == changes:
            return encoded
        cleaned: bytes = head.SerializeToString()
        return cleaned

    def _span(self, before: bytes, scope: bytes, encoded: bytes) -> BufferedSpan:
        self._ruler.measure(encoded, SPAN)
        span: Any = _parsed(Span, encoded)
        inner = field(_SPANS, self._cleaned(span, encoded))
        return self._buffered(span, before + field(_SCOPE_SPANS, scope + inner))

    def _cleaned(self, span: Any, encoded: bytes) -> bytes:
        """The bytes of a span as they came, where nothing in it is changed."""
        config = self._config
        changed = 0
        if len(span.attributes) > config.max_attributes or span.events or span.links:
            cut = cut_lists(span, config)
            self._count("attributes_dropped", cut)
            changed += cut
        if self._scrubs:
            scrubbed = self._scrubber.scrub(span.attributes)
            for one in (*span.events, *span.links):
                scrubbed += self._scrubber.scrub(one.attributes)
            self._count("scrubbed", scrubbed)
            changed += scrubbed
        # In what is shorter nothing can be longer.
        if len(encoded) > config.max_value_length:
            cut = cut_values(span.attributes, config.max_value_length)
            for one in (*span.events, *span.links):
                cut += cut_values(one.attributes, config.max_value_length)
            self._count("values_truncated", cut)
            changed += cut
        return span.SerializeToString() if changed else encoded

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


def _parsed(kind: type[Message], encoded: bytes) -> Message:
    """Raises MalformedOtlpError, OtlpLimitError, which say what protobuf has against it."""
    try:
        return kind.FromString(encoded)
    except DecodeError as error:
        found = str(error)
    what = kind.DESCRIPTOR.name
    if "MaxDepth" in found:
        raise OtlpLimitError(f"a {what} of the request is nested too deeply")
    if "UTF-8" in found:
        raise MalformedOtlpError(f"a {what} of the request has a text that is no UTF-8")
    raise MalformedOtlpError(f"a {what} of the request is no protobuf of OTLP, or is not whole")


def _is_entry(span: Any) -> bool:
    """Whether it begins a service's part of a trace: its parent is in another process."""
    if span.kind not in (_SERVER, _CONSUMER):
        return False
    flags = span.flags
    return not flags & _REMOTE_KNOWN or bool(flags & _REMOTE)


def _is_marked(span: Any) -> bool:
    return any(pair.key == _ROOT_ATTRIBUTE and pair.value.bool_value for pair in span.attributes)
