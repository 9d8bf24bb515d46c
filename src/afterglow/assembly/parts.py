"""A segment that is due, cut into numbered parts with message ids that say what is in them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from afterglow.assembly.entry import Entry

__all__ = ["Part", "Piece", "SegmentPlan", "ids_of_pieces", "part_message_id", "segment_plan"]


class Piece(NamedTuple):
    """Some spans of one entry: the entry's number, and positions in it, ascending.

    All spans of an entry are `range(entry.n_spans)`, so that its payload need not be cut.
    """

    entry: int
    positions: Sequence[int]


class Part(NamedTuple):
    """One part of a delivery: where its spans are, in order, and how much payload they have."""

    number: int
    is_last: bool
    message_id: str
    pieces: list[Piece]
    n_spans: int
    payload_bytes: int


class SegmentPlan(NamedTuple):
    """A segment that is due. `addendum`: something of it went out before."""

    root_span_id: bytes
    addendum: bool
    parts: list[Part]


def part_message_id(
    project: str, trace_id: bytes, root_span_id: bytes, part: int, span_ids: Iterable[bytes]
) -> str:
    """32 hexadecimal digits; `span_ids` may come in runs of several ids, the result is the same."""
    ids = b"".join(span_ids)
    name = project.encode("utf-8", "surrogatepass")
    digest = blake2b(digest_size=16)
    for field in (name, trace_id, root_span_id, part.to_bytes(8, "big")):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    digest.update(len(ids).to_bytes(8, "big"))
    digest.update(ids)
    return digest.hexdigest()


def ids_of_pieces(pieces: Iterable[Piece], entries: Sequence[Entry | None]) -> Iterator[bytes]:
    """The span ids of pieces, in runs."""
    for number, positions in pieces:
        entry = entries[number]
        assert entry is not None, "a piece of an entry that is gone"
        ids = entry.span_ids
        if len(positions) == len(entry.flags):
            yield ids
        elif isinstance(positions, range):
            yield ids[8 * positions.start : 8 * positions.stop]
        else:
            yield b"".join([ids[8 * at : 8 * at + 8] for at in positions])


def segment_plan(
    trace: tuple[str, bytes],
    root_span_id: bytes,
    addendum: bool,
    pieces: Sequence[Piece],
    entries: Sequence[Entry | None],
    max_segment_bytes: int,
) -> SegmentPlan:
    """Cut a segment: a part is full when the next span would make it larger than the limit.

    So a span above the limit is a part of its own.
    """
    cuts = list(_cut(pieces, entries, max_segment_bytes))
    parts = [
        Part(
            number,
            number == len(cuts) - 1,
            part_message_id(*trace, root_span_id, number, ids_of_pieces(held, entries)),
            held,
            sum(len(piece.positions) for piece in held),
            payload_bytes,
        )
        for number, (held, payload_bytes) in enumerate(cuts)
    ]
    return SegmentPlan(root_span_id, addendum, parts)


def _cut(
    pieces: Sequence[Piece], entries: Sequence[Entry | None], limit: int
) -> Iterator[tuple[list[Piece], int]]:
    held: list[Piece] = []
    held_bytes = 0
    for piece in pieces:
        entry = entries[piece.entry]
        assert entry is not None, "a piece of an entry that is gone"
        sizes = entry.sizes
        if len(piece.positions) < len(sizes):
            sizes = _chosen(sizes, piece.positions)
        total = sum(sizes)
        if held_bytes + total <= limit:
            held.append(piece)
            held_bytes += total
            continue
        ends = list(accumulate(sizes))
        begin = 0
        while begin < len(ends):
            before = ends[begin - 1] if begin else 0
            # How many more fit; into an empty part one fits, however large.
            end = bisect_right(ends, limit - held_bytes + before, begin)
            if end == begin and not held:
                end = begin + 1
            if end > begin:
                held.append(Piece(piece.entry, piece.positions[begin:end]))
                held_bytes += ends[end - 1] - before
                begin = end
            if begin < len(ends):
                yield held, held_bytes
                held, held_bytes = [], 0
    if held:
        yield held, held_bytes


def _chosen(sizes: Sequence[int], positions: Sequence[int]) -> Sequence[int]:
    if isinstance(positions, range):
        return sizes[positions.start : positions.stop]
    if len(positions) == 1:
        return (sizes[positions[0]],)
    chosen: tuple[int, ...] = itemgetter(*positions)(sizes)
    return chosen
