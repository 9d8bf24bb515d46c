"""take_due: look, seal, plan, and give out pages whose payloads are read only then."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from struct import Struct
from typing import Final

from afterglow.assembly import Piece
from afterglow.buffer.codec import parse_records
from afterglow.buffer.keys import Keys, buckets_of
from afterglow.buffer.layouts import ChunkReader
from afterglow.buffer.leases import Lease, LeasedPart, PlannedPart
from afterglow.buffer.sealing import Due, Prepared, Sealed, Sealer
from afterglow.buffer.settling import Settler
from afterglow.buffer.squeeze import Squeezer
from afterglow.config.buffer import BufferConfig
from afterglow.model.segment import SegmentPart

__all__ = ["Taker"]

_LOOK: Final = 64
#: What a span is taken to weigh before the first was seen.
_GUESS_BYTES: Final = 1_000

#: Payloads by lease (its identity) and number of the entry.
_Blobs = dict[tuple[int, int], bytes]
#: Span ids and their payloads.
_Contents = tuple[tuple[bytes, ...], tuple[bytes, ...]]
_Opened = dict[tuple[int, int], _Contents]


class Taker:
    """Takes what is due; safe in many threads, for what a call needs it passes along."""

    def __init__(
        self, keys: Keys, config: BufferConfig, sealer: Sealer, settler: Settler, squeezer: Squeezer
    ) -> None:
        self._keys = keys
        self._config = config
        self._sealer = sealer
        self._settler = settler
        self._squeezer = squeezer

    def take(
        self,
        now_ns: int,
        owner: str,
        shards: Collection[int] | None,
        max_segments: int,
        max_bytes: int,
        reader: ChunkReader,
    ) -> Iterator[list[SegmentPart]]:
        """Pages of parts; see SegmentBuffer.take_due."""
        buckets = buckets_of(shards, self._config.shards)
        seen: set[bytes] = set()
        page: list[PlannedPart] = []
        page_bytes = segments = 0
        span_bytes = float(_GUESS_BYTES)
        while segments < max_segments:
            due = [
                one
                for one in self._sealer.look(buckets, now_ns // 1_000, _LOOK + len(seen))
                if one.name not in seen
            ]
            if not due:
                break
            seen.update(one.name for one in due)
            waiting = due[::-1]
            while waiting and segments < max_segments:
                haul = _haul(waiting, max_segments - segments, max_bytes / span_bytes)
                leases = self._leases(haul, now_ns, owner, reader, max_bytes / span_bytes)
                span_bytes = _weight(leases, span_bytes)
                idle, surplus = [], []
                for lease in leases:
                    if segments >= max_segments:
                        surplus.append(lease)
                        continue
                    planned = list(lease.parts())
                    segments += len({id(one.segment) for one in planned})
                    if not planned:
                        idle.append(lease)
                    for one in planned:
                        if page and page_bytes + one.part.payload_bytes > max_bytes:
                            yield from self._page(page)
                            page, page_bytes = [], 0
                        page.append(one)
                        page_bytes += one.part.payload_bytes
                if idle:
                    self._settler.settle(idle)
                    for lease in idle:
                        self._sealer.keep(lease)
                # What was sealed by nobody before may grow until its turn comes.
                self._settler.unseal([one for one in surplus if one.is_new])
                self._settler.release([one for one in surplus if not one.is_new])
        if page:
            yield from self._page(page)

    def _leases(
        self, haul: Sequence[Due], now_ns: int, owner: str, reader: ChunkReader, spans: float
    ) -> list[Lease]:
        sealed = self._sealer.seal(haul, now_ns, owner)
        prepared = [one for one in sealed if one.settlement]
        if prepared:
            self._settler.finish([_prepared(one) for one in prepared])
            sealed = [one for one in sealed if not one.settlement]
        whole = sum(one.due.n_spans for one in sealed) <= 2 * spans
        return self._sealer.lease(sealed, reader, whole)

    def _page(self, planned: Sequence[PlannedPart]) -> Iterator[list[SegmentPart]]:
        """The parts with their payloads, read now where they were not with the index."""
        blobs = self._blobs(planned)
        parts: list[SegmentPart] = []
        broken: set[Lease] = set()
        opened: _Opened = {}
        for lease, _, segment, part in planned:
            if lease in broken:
                continue
            try:
                ids, payloads = self._contents(lease, part.pieces, blobs, opened)
            except KeyError:
                broken.add(lease)
                continue
            parts.append(
                LeasedPart(
                    message_id=part.message_id,
                    project=lease.project,
                    trace_id=lease.trace_id,
                    root_span_id=segment.root_span_id,
                    part=part.number,
                    is_last=part.is_last,
                    addendum=segment.addendum,
                    span_ids=ids,
                    payloads=payloads,
                    fence=lease.fence,
                    lease=lease,
                )
            )
        if broken:  # a chunk that went between two reads: the next visit counts what is lost
            self._settler.release(broken)
        if parts:
            yield parts

    def _contents(
        self, lease: Lease, pieces: Sequence[Piece], blobs: _Blobs, opened: _Opened
    ) -> _Contents:
        """Ids and payloads of a part. Raises KeyError for a chunk that is not there."""
        stored = lease.stored
        if all(len(positions) == stored[number].n_spans for number, positions in pieces):
            return self._cut(lease, [number for number, _ in pieces], blobs)
        ids: list[bytes] = []
        payloads: list[bytes] = []
        for number, positions in pieces:
            key = (id(lease), number)
            if key not in opened:
                opened[key] = self._cut(lease, [number], blobs)
            its_ids, its_payloads = opened[key]
            ids += [its_ids[at] for at in positions]
            payloads += [its_payloads[at] for at in positions]
        return tuple(ids), tuple(payloads)

    def _blobs(self, planned: Sequence[PlannedPart]) -> _Blobs:
        """The payloads that did not come with the index, by lease and entry."""
        blobs: _Blobs = {}
        wanted = {
            (lease, number)
            for lease, _, _, part in planned
            for number, _ in part.pieces
            if lease.stored[number].blob is None
        }
        by_reader: dict[ChunkReader, list[tuple[Lease, int]]] = {}
        for lease, number in sorted(wanted, key=lambda one: (one[0].name, one[1])):
            by_reader.setdefault(lease.reader, []).append((lease, number))
        for reader, some in by_reader.items():
            copies = {id(lease): list(lease.stored) for lease, _ in some}
            self._sealer.read_chunks(
                [(lease.name, copies[id(lease)], number) for lease, number in some], reader, True
            )
            for lease, number in some:
                blob = copies[id(lease)][number].blob
                if blob is not None:
                    blobs[(id(lease), number)] = blob
        return blobs

    def _cut(self, lease: Lease, numbers: Sequence[int], blobs: _Blobs) -> _Contents:
        """Ids and payloads of all spans of some entries."""
        runs = []
        sizes: list[int] = []
        ids = []
        for number in numbers:
            stored = lease.stored[number]
            blob = stored.blob
            if blob is None:
                blob = blobs[id(lease), number]
            entry = stored.entry
            assert entry is not None
            runs.append(self._squeezer.unsqueeze(blob, stored.is_raw, stored.dictionary))
            sizes += entry.sizes
            ids.append(entry.span_ids)
        payload = b"".join(runs)
        ends = list(accumulate(sizes))
        begins = [0, *ends[:-1]]
        return (
            _ids_of(len(sizes)).unpack(b"".join(ids)),
            tuple([payload[begin:end] for begin, end in zip(begins, ends, strict=True)]),
        )


@lru_cache(maxsize=4_096)
def _ids_of(n_spans: int) -> Struct:
    return Struct("8s" * n_spans)


def _haul(waiting: list[Due], segments: int, spans: float) -> list[Due]:
    """So many of the traces (from the end of the list) as make about a page; one at least."""
    haul: list[Due] = []
    held = 0
    while waiting and len(haul) < segments:
        if haul and held + waiting[-1].n_spans > spans:
            break
        one = waiting.pop()
        haul.append(one)
        held += one.n_spans
    return haul


def _weight(leases: Sequence[Lease], before: float) -> float:
    """Bytes of payload of a span, as the newest leases have it."""
    n_spans = n_bytes = 0
    for lease in leases:
        for segment in lease.plan.segments:
            for part in segment.parts:
                n_spans += part.n_spans
                n_bytes += part.payload_bytes
    return max(n_bytes / n_spans, 1.0) if n_spans else before


def _prepared(sealed: Sealed) -> Prepared:
    record = sealed.settlement[4]
    chunks = tuple(chunk for one in parse_records(record) for chunk in one.chunks)
    return Prepared(sealed.due.bucket, sealed.due.name, sealed.fence, 0, chunks)
