"""What arrives: the spans of one trace in one batch, as an entry of edges, times and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import eq
from typing import NamedTuple
from zlib import crc32

from afterglow.config.buffer import BufferConfig
from afterglow.errors import SpanBufferError
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import BufferedSpan

__all__ = [
    "NO_SPAN",
    "Entry",
    "Subsegment",
    "index_bucket",
    "keys_of",
    "not_spans",
    "remember",
    "subsegments",
]

#: In the place of a parent: there is none. OpenTelemetry forbids it as the id of a span.
NO_SPAN = bytes(8)
_NO_TRACE = bytes(16)

INDEX_BUCKETS = 64


class Entry(NamedTuple):
    """The spans that one `add` brought for one trace, without their payloads.

    `span_ids` and `parents` are 8 bytes a span, one behind the other, NO_SPAN for no parent;
    `flags` is a byte a span (1: marked as a segment root); `sizes[i]` is the bytes of payload
    of the i-th. `left` are the positions that are still there, ascending; None is all.
    """

    time_ns: int
    span_ids: bytes
    parents: bytes
    flags: bytes
    sizes: Sequence[int]
    left: Sequence[int] | None = None

    @property
    def n_spans(self) -> int:
        """How many spans, those that left among them."""
        return len(self.flags)

    @property
    def has_root(self) -> bool:
        """Whether a span of it is a root by itself: without parent, marked, or its own parent."""
        parents = keys_of(self.parents)
        return 0 in parents or any(self.flags) or any(map(eq, parents, keys_of(self.span_ids)))


class Subsegment(NamedTuple):
    """The spans of one trace in one batch; `payloads[i]` is that of the entry's i-th span."""

    project: str
    trace_id: bytes
    entry: Entry
    payloads: list[bytes]


def keys_of(ids: bytes) -> list[int]:
    """Span ids as numbers: cheaper to hash, compare and keep than bytes. NO_SPAN is 0."""
    keys: list[int] = memoryview(ids).cast("Q").tolist()
    return keys


def remember(into: dict[int, int], root_span_id: bytes, span_ids: bytes) -> None:
    """Put down the root that spans went out with, as `Tree` wants to have it remembered."""
    (root,) = keys_of(root_span_id)
    into.update(dict.fromkeys(keys_of(span_ids), root))


_KINDS = (
    ("project", str),
    ("trace_id", bytes),
    ("span_id", bytes),
    ("parent_span_id", bytes | None),
    ("is_segment_root", object),
    ("payload", bytes | bytearray | memoryview),
)


def not_spans(spans: Sequence[object]) -> SpanBufferError | None:
    """Which of these is no BufferedSpan, and why: what to raise for it. None: all are."""
    for number, span in enumerate(spans):
        if not isinstance(span, BufferedSpan):
            wrong = f"is of type {type(span).__name__}"
        else:
            wrong = next(
                (
                    f"has a {name} of type {type(value).__name__}"
                    for value, (name, kind) in zip(span, _KINDS, strict=True)
                    if not isinstance(value, kind)
                ),
                "",
            )
        if wrong:
            return SpanBufferError(
                f"span {number} of the batch {wrong}: add takes BufferedSpan(project, trace_id, "
                "span_id, parent_span_id, is_segment_root, payload), the project as text, ids and "
                "payload as bytes; nothing of the batch was taken in"
            )
    return None


def index_bucket(project: str, trace_id: bytes) -> int:
    """Which of the 64 index buckets a trace is in; shard `s` owns those with bucket % shards == s.

    The same in every process and version: what is in Redis was put there by it.
    """
    return crc32(trace_id, crc32(project.encode("utf-8", "surrogatepass"))) % INDEX_BUCKETS


def subsegments(
    spans: Sequence[BufferedSpan], now_ns: int, config: BufferConfig
) -> tuple[list[Subsegment], dict[str, dict[str, int]]]:
    """Sort a batch by trace; what can never be held is left out and counted by project, reason."""
    found: list[Subsegment] = []
    dropped: dict[str, Counter[str]] = {}
    for (project, trace_id), group in _by_trace(spans).items():
        made = _entry(trace_id, group, now_ns, config)
        if made is None:
            made = _entry(trace_id, _sifted(trace_id, group, config, dropped), now_ns, config)
        if made is not None:
            found.append(Subsegment(project, trace_id, *made))
    return found, {project: dict(reasons) for project, reasons in dropped.items()}


def _by_trace(
    spans: Sequence[BufferedSpan],
) -> Mapping[tuple[str, bytes], list[BufferedSpan]]:
    groups: dict[tuple[str, bytes], list[BufferedSpan]] = {}
    for span in spans:
        key = span[:2]
        group = groups.get(key)
        if group is None:
            groups[key] = [span]
        else:
            group.append(span)
    return groups


def _entry(
    trace_id: bytes, group: list[BufferedSpan], now_ns: int, config: BufferConfig
) -> tuple[Entry, list[bytes]] | None:
    """One entry of spans that are all as they should be; None if one is not, or there is none."""
    if len(trace_id) != 16 or trace_id == _NO_TRACE or not group:
        return None
    _, _, ids, parents, marks, payloads = map(list, zip(*group, strict=True))
    parents = [parent or NO_SPAN for parent in parents]
    sizes = list(map(len, payloads))
    if (
        set(map(len, ids)) != {8}
        or set(map(len, parents)) != {8}
        or NO_SPAN in ids
        or max(sizes) > config.max_span_bytes
    ):
        return None
    flags = bytes(map(bool, marks))
    return Entry(now_ns, b"".join(ids), b"".join(parents), flags, sizes), payloads


def _sifted(
    trace_id: bytes,
    group: list[BufferedSpan],
    config: BufferConfig,
    dropped: dict[str, Counter[str]],
) -> list[BufferedSpan]:
    """The spans that can be held; the others are counted."""
    good = []
    for span in group:
        reason = _fault(trace_id, span, config)
        if reason is None:
            good.append(span)
        else:
            dropped.setdefault(span.project, Counter())[reason] += 1
    return good


def _fault(trace_id: bytes, span: BufferedSpan, config: BufferConfig) -> BufferDropReason | None:
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        return "invalid_id"
    if len(span.span_id) != 8 or span.span_id == NO_SPAN:
        return "invalid_id"
    if span.parent_span_id and len(span.parent_span_id) != 8:
        return "invalid_id"
    if len(span.payload) > config.max_span_bytes:
        return "too_large"
    return None
