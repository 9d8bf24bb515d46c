"""Spans on their way through the buffer, and the segments that come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

__all__ = ["AddResult", "BufferBooks", "BufferedSpan", "Fence", "SegmentPart"]


class BufferedSpan(NamedTuple):
    """One finished span, as a collector received it.

    `trace_id` is 16 bytes, `span_id` and `parent_span_id` 8; `payload` is opaque to the buffer.
    `is_segment_root` marks a root that has a parent: an entry span of a service.
    """

    project: str
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    is_segment_root: bool
    payload: bytes


class AddResult(msgspec.Struct, frozen=True):
    """What became of the spans of one `add`; accepted + dropped + refused = given.

    `accepted` spans are held, and survive what the buffer survives. `dropped` ones never will
    be (by reason, see ledger.py). `refused` ones are the sender's still: the same call may be
    repeated after `retry_after_s`, whole, for repeats do not matter. `reason` says why.
    """

    accepted: int
    dropped: Mapping[str, int] = {}
    refused: int = 0
    reason: str | None = None
    retry_after_s: float = 0.0


class Fence(NamedTuple):
    """What `acknowledge` and `release` check: who took which generation of a trace, as what."""

    owner: str
    token: int
    generation: int


class SegmentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A numbered part of one delivery of a segment; most segments have one part.

    `message_id` (32 hexadecimal digits) is computed from project, trace, root, part and span
    ids, so that the same delivery made twice has the same ids. `root_span_id` is the id of a
    span, always: the root, or the top of an orphaned subtree. `part` counts from 0; the last
    has `is_last`. `addendum`: something of this segment went out before. `payloads[i]` is
    that of the span `span_ids[i]`, as it was added.
    """

    message_id: str
    project: str
    trace_id: bytes
    root_span_id: bytes
    part: int
    is_last: bool
    addendum: bool
    span_ids: tuple[bytes, ...]
    payloads: tuple[bytes, ...]
    fence: Fence


class BufferBooks(msgspec.Struct, frozen=True):
    """Where every span went: ingested = delivered + dropped(by project and reason) + held.

    `ingested` counts what `add` took in, `delivered` what was acknowledged; repeats are
    ingested and then dropped as `duplicate`.
    """

    ingested: int
    delivered: int
    held: int
    dropped: Mapping[str, Mapping[str, int]]

    @property
    def balanced(self) -> bool:
        """Whether the equation above holds."""
        lost = sum(sum(reasons.values()) for reasons in self.dropped.values())
        return self.ingested == self.delivered + lost + self.held
