"""Pages on their way to the disk queue and back, and how long one waits: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from afterglow.model.segment import Fence, SegmentPart

__all__ = ["chunks", "full_jitter_s", "pack", "payload_bytes", "spans_of_parts", "unpack"]

#: A part from the queue is nobody's lease any more.
_NO_FENCE: Final = Fence("", 0, 0)


class _Part(msgspec.Struct, array_like=True):
    message_id: str
    project: str
    trace_id: bytes
    root_span_id: bytes
    part: int
    is_last: bool
    addendum: bool
    span_ids: tuple[bytes, ...]
    payloads: tuple[bytes, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[_Part, ...]).decode


def pack(parts: Sequence[SegmentPart]) -> bytes:
    """Parts as bytes, without the fence."""
    return _encode(
        [
            _Part(
                part.message_id,
                part.project,
                part.trace_id,
                part.root_span_id,
                part.part,
                part.is_last,
                part.addendum,
                part.span_ids,
                part.payloads,
            )
            for part in parts
        ]
    )


def unpack(record: bytes) -> list[SegmentPart]:
    """The parts again. Raises msgspec.DecodeError for what `pack` did not make."""
    return [
        SegmentPart(
            message_id=part.message_id,
            project=part.project,
            trace_id=part.trace_id,
            root_span_id=part.root_span_id,
            part=part.part,
            is_last=part.is_last,
            addendum=part.addendum,
            span_ids=part.span_ids,
            payloads=part.payloads,
            fence=_NO_FENCE,
        )
        for part in _decode(record)
    ]


def payload_bytes(part: SegmentPart) -> int:
    """How large the payloads of a part are together."""
    return sum(map(len, part.payloads))


def spans_of_parts(parts: Sequence[SegmentPart]) -> int:
    """How many spans."""
    return sum(len(part.span_ids) for part in parts)


def chunks(parts: Sequence[SegmentPart], max_bytes: int) -> Iterator[list[SegmentPart]]:
    """Parts in order, in lists of about so many bytes of payload; a larger part stands alone."""
    chunk: list[SegmentPart] = []
    size = 0
    for part in parts:
        more = payload_bytes(part)
        if chunk and size + more > max_bytes:
            yield chunk
            chunk, size = [], 0
        chunk.append(part)
        size += more
    if chunk:
        yield chunk


def full_jitter_s(first_s: float, most_s: float, failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row, the first of which counts as 1.

    Anything from 0 to a bound that doubles each time, up to `most_s`: many that lost the same
    server come back spread over the whole of the time. `chance` is 0 to 1.
    """
    return min(most_s, first_s * (1 << min(max(failures - 1, 0), 30))) * chance
