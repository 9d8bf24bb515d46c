"""Flush all that is held, whether due or not, into a sink: before a buffer is put away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from afterglow.config import BufferConfig
from afterglow.errors import SinkError
from afterglow.ports import SegmentBuffer, SegmentSink

__all__ = ["Drained", "drain"]

#: Later than any timeout that a collector's settings may have.
_LATEST_S: Final = 86_400.0


class Drained(NamedTuple):
    """What went out, and what is held still: leased by others, or added meanwhile."""

    parts: int
    spans: int
    payload_bytes: int
    held: int


def drain(
    buffer: SegmentBuffer,
    sink: SegmentSink,
    now_ns: int,
    *,
    owner: str,
    config: BufferConfig,
    progress: Callable[[int], None] = lambda _: None,
) -> Drained:
    """Take as if it were late enough for everything to be due; `progress(spans)` as they go.

    Raises SinkError where the sink does not take a page; that page is due again at once then.
    """
    parts = spans = payload_bytes = 0
    # By our settings first: a lease that is taken in the future lasts until then.
    soon_s = min(max(config.timeout_s, config.root_timeout_s), config.max_open_s)
    for ahead_s in (soon_s, _LATEST_S):
        before = -1
        while spans != before and buffer.ledger().held:
            before = spans
            for page in buffer.take_due(now_ns + round(ahead_s * 1e9), owner=owner):
                try:
                    sink.write(page)
                except BaseException as error:
                    buffer.release(page)
                    if isinstance(error, SinkError) or not isinstance(error, Exception):
                        raise
                    raise SinkError(f"{type(error).__name__}: {error}") from error
                buffer.acknowledge(page)
                parts += len(page)
                spans += sum(len(part.span_ids) for part in page)
                payload_bytes += sum(len(payload) for part in page for payload in part.payloads)
                progress(spans)
    return Drained(parts, spans, payload_bytes, buffer.ledger().held)
