"""The span buffer in the memory of one process: the default of an embedded collector."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop

from afterglow.assembly import (
    Part,
    SegmentPlan,
    Subsegment,
    not_spans,
    subsegments,
)
from afterglow.buffer.held import NEVER_NS, HeldTrace, Seal
from afterglow.buffer.held_traces import HeldTraces, Queue, size_of
from afterglow.buffer.intake_journal import Journal
from afterglow.config.buffer import BufferConfig
from afterglow.errors import SpoolError
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, Fence, SegmentPart

__all__ = ["MemoryBuffer"]

_RETRY_AFTER_S = 1.0

#: Parts that are acknowledged with the lock held once.
_AT_ONCE = 64


class MemoryBuffer(HeldTraces):
    """A `SegmentBuffer` (ports.py) in this process; any number of threads may use it.

    What it holds is gone with the process: who must not lose it writes it down before. It holds at
    most `max_held_bytes` (payloads, and about 250 bytes a span) and refuses the batch that would
    be more, whole, as a value; an empty buffer takes any one batch. What went out is remembered in
    a quarter of that beside it, for `tombstone_s` since it was taken.

    The lock is held for short steps: trees are planned by the flusher that sealed the trace.
    Raises SettingError for a setting that is out of its limits.
    """

    def __init__(
        self, config: BufferConfig | None = None, *, journal: Journal | None = None
    ) -> None:
        super().__init__(config, journal)

    @property
    def held_bytes(self) -> int:
        """What counts towards `max_held_bytes`."""
        return self._held_bytes

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> AddResult:
        """Hold spans, all or none of those that can be held; never waits.

        Raises SpanBufferError, with nothing taken in, for what is no BufferedSpan.
        """
        found, dropped = self._sorted(spans, now_ns)
        n_dropped = Counter[str]()
        for reasons in dropped.values():
            n_dropped.update(reasons)
        accepted = len(spans) - n_dropped.total()
        size = size_of(found)
        record = self._journal.encode(spans, now_ns)
        with self._lock:
            room = self._config.max_held_bytes - self._held_bytes
            if accepted and (self._closed or (size > room and self._books.held_spans)):
                reason = "the buffer is closed" if self._closed else "the buffer is full"
                return _refused(len(spans), reason)
            try:
                mark = self._journal.came(record, accepted, now_ns)
            except SpoolError as error:
                return _refused(len(spans), str(error))
            self._hold(found, dropped, now_ns, mark)
        return AddResult(accepted=accepted, dropped=dict(n_dropped))

    def take_due(
        self,
        now_ns: int,
        *,
        owner: str,
        shards: Collection[int] | None = None,
        max_segments: int = 1_000,
        max_bytes: int = 32 << 20,
    ) -> Iterator[list[SegmentPart]]:
        """Pages of parts that are due; each trace is sealed when its turn comes.

        The oldest of each shard by turns, beginning with the oldest of all.
        """
        queues = self._oldest_first(shards)
        page: list[SegmentPart] = []
        page_bytes = n_segments = 0
        while n_segments < max_segments:
            sealed = self._seal_next(now_ns, owner, queues)
            if sealed is None:
                break
            trace, seal = sealed
            if seal.plan is None and not self._plan(trace, seal):
                continue
            waiting = list(seal.waiting.values())
            n_segments += len({segment.root_span_id for segment, _ in waiting})
            for segment, planned in waiting:
                if page and page_bytes + planned.payload_bytes > max_bytes:
                    yield page
                    page, page_bytes = [], 0
                part = self._part(trace, seal, segment, planned)
                if part is not None:
                    page.append(part)
                    page_bytes += planned.payload_bytes
        if page:
            yield page

    def acknowledge(
        self, parts: Sequence[SegmentPart], *, dropped: BufferDropReason | None = None
    ) -> int:
        """Forget parts whose fence is valid, and count them; returns how many there were."""
        ours = 0
        for start in range(0, len(parts), _AT_ONCE):
            with self._lock:
                ours += self._acknowledge(parts[start : start + _AT_ONCE], dropped)
        return ours

    def release(self, parts: Sequence[SegmentPart]) -> None:
        """End the leases that these parts were taken under; what is left is due at once."""
        for part in parts:
            with self._lock:
                trace = self._owned(part)
                if trace is not None and trace.seal is not None:
                    self._queue(trace, -NEVER_NS)

    def ledger(self) -> BufferBooks:
        """The books, as they are at one moment."""
        with self._lock:
            return self._books.read()

    def close(self) -> None:
        """Take nothing in any more; what is held can still be taken."""
        with self._lock:
            self._closed = True

    def _sorted(
        self, spans: Sequence[BufferedSpan], now_ns: int
    ) -> tuple[list[Subsegment], dict[str, dict[str, int]]]:
        """`subsegments`, for spans that are what they say."""
        try:
            found, dropped = subsegments(spans, now_ns, self._config)
        except (TypeError, ValueError, AttributeError):
            wrong = not_spans(spans)
            if wrong is None:
                raise
            raise wrong from None
        for project, trace_id, _, payloads in found:
            plain = type(project) is str and type(trace_id) is bytes
            if not (plain and set(map(type, payloads)) == {bytes}) and (wrong := not_spans(spans)):
                raise wrong
        return found, dropped

    # --- What follows is called with the lock held, but for _plan and _part, which take it. ---

    def _oldest_first(self, shards: Collection[int] | None) -> deque[Queue]:
        chosen = range(self._config.shards) if shards is None else shards
        with self._lock:
            queues = [
                queue for shard, queue in enumerate(self._queues) if shard in chosen and queue
            ]
            return deque(sorted(queues, key=lambda queue: queue[0][:2]))

    def _seal_next(
        self, now_ns: int, owner: str, queues: deque[Queue]
    ) -> tuple[HeldTrace, Seal] | None:
        """Seal the next trace that is to be looked at, or take a dead owner's over."""
        with self._lock:
            self._remembered.expire(now_ns)
            while queues:
                queue = queues[0]
                while queue and queue[0][0] != queue[0][2].look_ns:
                    heappop(queue)
                if queue and queue[0][0] <= now_ns:
                    break
                queues.popleft()
            if not queues:
                return None
            queues.rotate(-1)
            _, _, trace = heappop(queue)
            self._tokens += 1
            until_ns = now_ns + self._lease_ns
            if trace.seal is None:
                seal = Seal(owner, self._tokens, trace.generation, now_ns, len(trace.entries))
                self._give_tree(trace, seal)
            else:
                if trace.seal.plan is None:
                    # The owner died over it, or is at it still: its tree is not to be touched.
                    later = len(trace.entries) - trace.seal.n_entries
                    trace.compact()
                    trace.seal.n_entries = len(trace.entries) - later
                seal = trace.seal.given_to(owner, self._tokens)
                if seal.plan is None:
                    self._give_tree(trace, seal)
            trace.seal = seal
            self._queue(trace, until_ns)
            return trace, seal

    def _plan(self, trace: HeldTrace, seal: Seal) -> bool:
        """Find what of a sealed trace is due; False if nothing is, or somebody took it over."""
        tree = seal.tree
        assert tree is not None
        tree.extend(seal.fresh)
        plan = tree.plan(seal.sealed_ns)
        waiting = {
            part.message_id: (segment, part) for segment in plan.segments for part in segment.parts
        }
        with self._lock:
            if trace.seal is not seal:
                return False
            seal.plan = plan
            seal.waiting = waiting
            seal.fresh = []
            if plan.duplicates:
                self._drop_duplicates(trace, plan.duplicates)
            if not waiting:
                self._finish(trace, seal)
            return bool(waiting)

    def _part(
        self, trace: HeldTrace, seal: Seal, segment: SegmentPlan, planned: Part
    ) -> SegmentPart | None:
        """The part with its payloads; None if somebody took it over."""
        with self._lock:
            if trace.seal is not seal or planned.message_id not in seal.waiting:
                return None
            span_ids: list[bytes] = []
            payloads: list[bytes] = []
            for number, positions in planned.pieces:
                held = trace.held_entry(number)
                payloads += held.chosen(positions)
                ids = held.entry.span_ids
                if len(positions) == len(held.payloads):
                    span_ids += [ids[at : at + 8] for at in range(0, len(ids), 8)]
                else:
                    span_ids += [ids[8 * at : 8 * at + 8] for at in positions]
        return SegmentPart(
            message_id=planned.message_id,
            project=trace.project,
            trace_id=trace.trace_id,
            root_span_id=segment.root_span_id,
            part=planned.number,
            is_last=planned.is_last,
            addendum=segment.addendum,
            span_ids=tuple(span_ids),
            payloads=tuple(payloads),
            fence=Fence(seal.owner, seal.token, seal.generation),
        )


def _refused(n_spans: int, reason: str) -> AddResult:
    return AddResult(accepted=0, refused=n_spans, reason=reason, retry_after_s=_RETRY_AFTER_S)
