"""What segments are, said as plainly as possible: no cleverness, no care for time or memory.

It knows nothing of afterglow.assembly and is what that, and every buffer, is held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan

__all__ = ["Held", "OracleSegment", "counted", "cut", "ns", "root_of", "segments"]


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


@dataclass(frozen=True)
class Held:
    """A span, and when it was added."""

    span: BufferedSpan
    time_ns: int


@dataclass(frozen=True)
class OracleSegment:
    root: bytes
    addendum: bool
    spans: list[Held]
    due_ns: int


def counted(arrived: Sequence[Held], flushed: Mapping[bytes, bytes]) -> list[Held]:
    """What is left without repeats; of two, the first counts."""
    seen = set(flushed)
    first = []
    for held in arrived:
        if held.span.span_id not in seen:
            seen.add(held.span.span_id)
            first.append(held)
    return first


def root_of(
    span: BufferedSpan, held: Mapping[bytes, BufferedSpan], flushed: Mapping[bytes, bytes]
) -> tuple[bytes, str]:
    """The root of a span's segment, and how it was found: root, flushed, orphan or ring."""
    way: list[bytes] = []
    while True:
        if span.span_id in way:
            return min(way[way.index(span.span_id) :]), "ring"
        way.append(span.span_id)
        if not span.parent_span_id or span.is_segment_root or span.parent_span_id == span.span_id:
            return span.span_id, "root"
        if span.parent_span_id in held:
            span = held[span.parent_span_id]
        elif span.parent_span_id in flushed:
            return flushed[span.parent_span_id], "flushed"
        else:
            return span.span_id, "orphan"


def segments(
    arrived: Sequence[Held], flushed: Mapping[bytes, bytes], config: BufferConfig
) -> list[OracleSegment]:
    """The segments of one trace, in the order of their first spans."""
    spans = counted(arrived, flushed)
    held = {one.span.span_id: one.span for one in spans}
    members: dict[tuple[bytes, str], list[Held]] = {}
    for one in spans:
        members.setdefault(root_of(one.span, held, flushed), []).append(one)
    found = []
    for (root, how), group in members.items():
        quiet_s = config.root_timeout_s if how in ("root", "flushed") else config.timeout_s
        due_ns = min(
            max(one.time_ns for one in group) + ns(quiet_s),
            min(one.time_ns for one in group) + ns(config.max_open_s),
        )
        found.append(OracleSegment(root, how == "flushed", group, due_ns))
    return found


def cut(spans: Sequence[Held], limit: int) -> list[list[BufferedSpan]]:
    """Parts: one is full when the next span would make it larger than the limit."""
    parts: list[list[BufferedSpan]] = [[]]
    for one in spans:
        if parts[-1] and sum(len(s.payload) for s in parts[-1]) + len(one.span.payload) > limit:
            parts.append([])
        parts[-1].append(one.span)
    return parts
