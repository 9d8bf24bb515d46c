"""take_due: look, seal, plan, and give out pages whose payloads are read only then."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Final

from afterglow.buffer.codec import COLOCATED, DISTRIBUTED, INLINE, parse_records
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
_BOTH: Final = COLOCATED | DISTRIBUTED


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
        opened: dict[tuple[int, int], tuple[list[bytes], list[bytes]]] = {}
        for lease, _, segment, part in planned:
            ids: list[bytes] = []
            payloads: list[bytes] = []
            for number, positions in part.pieces:
                key = (id(lease), number)
                cut = opened.get(key)
                if cut is None:
                    blob = blobs.get(key)
                    if blob is None:
                        broken.add(lease)
                        break
                    cut = opened[key] = self._cut(lease, number, blob)
                if isinstance(positions, range) and len(positions) == len(cut[0]):
                    ids += cut[0]
                    payloads += cut[1]
                else:
                    ids += [cut[0][at] for at in positions]
                    payloads += [cut[1][at] for at in positions]
            if lease not in broken:
                parts.append(
                    LeasedPart(
                        message_id=part.message_id,
                        project=lease.project,
                        trace_id=lease.trace_id,
                        root_span_id=segment.root_span_id,
                        part=part.number,
                        is_last=part.is_last,
                        addendum=segment.addendum,
                        span_ids=tuple(ids),
                        payloads=tuple(payloads),
                        fence=lease.fence,
                        lease=lease,
                    )
                )
        if broken:  # a chunk that went between two reads: the next visit counts what is lost
            self._settler.release(broken)
        if parts:
            yield parts

    def _blobs(self, planned: Sequence[PlannedPart]) -> dict[tuple[int, int], bytes]:
        blobs: dict[tuple[int, int], bytes] = {}
        wanted = []
        for lease, _, _, part in planned:
            for number, _ in part.pieces:
                key = (id(lease), number)
                if key in blobs:
                    continue
                stored = lease.stored[number]
                blobs[key] = stored.blob or b""
                if stored.blob is None and stored.places != INLINE:
                    wanted.append((lease, number))
        by_reader: dict[ChunkReader, list[tuple[Lease, int]]] = {}
        for lease, number in wanted:
            by_reader.setdefault(lease.reader, []).append((lease, number))
        for reader, some in by_reader.items():
            copies = {id(lease): list(lease.stored) for lease, _ in some}
            self._sealer.read_chunks(
                [(lease.name, copies[id(lease)], number) for lease, number in some], reader, True
            )
            for lease, number in some:
                blob = copies[id(lease)][number].blob
                if blob is None:
                    del blobs[(id(lease), number)]
                else:
                    blobs[(id(lease), number)] = blob
        return blobs

    def _cut(self, lease: Lease, number: int, blob: bytes) -> tuple[list[bytes], list[bytes]]:
        """Ids and payloads of all spans of an entry."""
        stored = lease.stored[number]
        entry = stored.entry
        assert entry is not None
        payload = self._squeezer.unsqueeze(blob, stored.is_raw)
        ids = entry.span_ids
        ends = list(accumulate(entry.sizes))
        begins = [0, *ends[:-1]]
        return (
            [ids[at : at + 8] for at in range(0, len(ids), 8)],
            [payload[begin:end] for begin, end in zip(begins, ends, strict=True)],
        )


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
    chunks = tuple((_BOTH, chunk) for one in parse_records(record) for chunk in one.chunks)
    return Prepared(sealed.due.bucket, sealed.due.name, sealed.fence, 0, chunks)
