"""The span buffer in the memory of one process: the default of an embedded collector."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop, heappush

from afterglow.assembly import (
    Part,
    Piece,
    SegmentPlan,
    Subsegment,
    Tree,
    ids_of_pieces,
    not_spans,
    subsegments,
)
from afterglow.buffer.held import NEVER_NS, HeldEntry, HeldTrace, Seal
from afterglow.buffer.remembered import Remembered
from afterglow.config.buffer import BufferConfig
from afterglow.config.setting import checked
from afterglow.errors import SpanBufferError
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, Fence, SegmentPart

__all__ = ["MemoryBuffer"]

#: About what a span that waits costs beside its payload: 70 bytes in batches with many spans of a
#: trace, 120 with 20, 320 with 4 (CPython 3.13). Not counted is the tree of a trace that is being
#: taken: of one of 300,000 spans it was, for that while, another 1,300 bytes a span.
SPAN_BYTES = 250
_RETRY_AFTER_S = 1.0

_Queue = list[tuple[int, int, HeldTrace]]


class MemoryBuffer:
    """A `SegmentBuffer` (ports.py) in this process; any number of threads may use it.

    What it holds is gone with the process: who must not lose it writes it down before. It holds at
    most `max_held_bytes` (payloads, and about 250 bytes a span) and refuses the batch that would
    be more, whole, as a value; an empty buffer takes any one batch. What went out is remembered in
    a quarter of that beside it, for `tombstone_s` since it was taken.

    The lock is held for short steps: trees are planned by the flusher that sealed the trace.
    Raises SettingError for a setting that is out of its limits.
    """

    def __init__(self, config: BufferConfig | None = None) -> None:
        config = checked(config or BufferConfig())
        self._config = config
        self._root_look_ns = round(min(config.root_timeout_s, config.max_open_s) * 1e9)
        self._look_ns = round(min(config.timeout_s, config.max_open_s) * 1e9)
        self._lease_ns = round(config.lease_s * 1e9)
        self._tombstone_ns = round(config.tombstone_s * 1e9)
        # All below is owned by the lock, but for a seal's tree (see Seal).
        self._lock = threading.Lock()
        self._closed = False
        self._traces: dict[tuple[str, bytes], HeldTrace] = {}
        #: For each shard: (when to look, tie-breaker, trace); valid while it is its `look_ns`.
        self._queues: list[_Queue] = [[] for _ in range(config.shards)]
        self._pushes = 0
        self._tokens = 0
        self._remembered = Remembered(config.max_held_bytes // 4)
        self._held_bytes = 0
        self._ingested = 0
        self._delivered = 0
        self._held = 0
        self._dropped: dict[str, Counter[str]] = {}

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
        size = SPAN_BYTES * accepted + sum(sum(one.entry.sizes) for one in found)
        with self._lock:
            room = self._config.max_held_bytes - self._held_bytes
            if accepted and (self._closed or (size > room and self._held)):
                reason = "the buffer is closed" if self._closed else "the buffer is full"
                return AddResult(
                    accepted=0, refused=len(spans), reason=reason, retry_after_s=_RETRY_AFTER_S
                )
            self._remembered.expire(now_ns)
            for project, reasons in dropped.items():
                self._dropped.setdefault(project, Counter()).update(reasons)
            self._ingested += len(spans)
            self._held += accepted
            self._held_bytes += size
            for project, trace_id, entry, payloads in found:
                key = (project, trace_id)
                trace = self._traces.get(key)
                if trace is None:
                    trace = HeldTrace(project, trace_id, self._config.shards)
                    self._traces[key] = trace
                trace.entries.append(HeldEntry(entry, payloads))
                # Spans under what went out, or is just going, are due like those under a root.
                soon = trace.seal is not None or key in self._remembered or entry.has_root
                self._look(trace, now_ns + (self._root_look_ns if soon else self._look_ns))
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
        for part in parts:
            with self._lock:
                trace = self._owned(part)
                if trace is None or trace.seal is None:
                    continue
                planned = trace.seal.waiting.pop(part.message_id, None)
                if planned is None:
                    continue
                ours += 1
                self._gone(trace, trace.seal, *planned, dropped)
                if not trace.seal.waiting:
                    self._finish(trace, trace.seal)
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
            return BufferBooks(
                ingested=self._ingested,
                delivered=self._delivered,
                held=self._held,
                dropped={project: dict(reasons) for project, reasons in self._dropped.items()},
            )

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

    def _look(self, trace: HeldTrace, when_ns: int) -> None:
        """A flusher is to look at the trace at that time, or before."""
        if trace.seal is not None:
            trace.wish_ns = min(trace.wish_ns, when_ns)
        elif when_ns < trace.look_ns:
            self._queue(trace, when_ns)

    def _queue(self, trace: HeldTrace, when_ns: int) -> None:
        trace.look_ns = when_ns
        self._pushes += 1
        heappush(self._queues[trace.shard], (when_ns, self._pushes, trace))

    def _oldest_first(self, shards: Collection[int] | None) -> deque[_Queue]:
        chosen = range(self._config.shards) if shards is None else shards
        with self._lock:
            queues = [
                queue for shard, queue in enumerate(self._queues) if shard in chosen and queue
            ]
            return deque(sorted(queues, key=lambda queue: queue[0][:2]))

    def _seal_next(
        self, now_ns: int, owner: str, queues: deque[_Queue]
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

    def _give_tree(self, trace: HeldTrace, seal: Seal) -> None:
        tree = trace.tree or Tree(trace.project, trace.trace_id, self._config, {})
        tree.remembered = self._remembered.mapping((trace.project, trace.trace_id))
        trace.tree = None
        seal.tree = tree
        seal.fresh = [
            trace.held_entry(number).entry for number in range(trace.in_tree, seal.n_entries)
        ]

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

    def _drop_duplicates(self, trace: HeldTrace, pieces: list[Piece]) -> None:
        n_spans = n_bytes = 0
        for number, positions in pieces:
            sizes = trace.held_entry(number).entry.sizes
            n_spans += len(positions)
            n_bytes += sum(sizes[at] for at in positions)
        trace.free(pieces)
        self._count_out(trace, n_spans, n_bytes, "duplicate")

    def _count_out(
        self, trace: HeldTrace, n_spans: int, n_bytes: int, dropped: BufferDropReason | None
    ) -> None:
        self._held -= n_spans
        self._held_bytes -= n_bytes + SPAN_BYTES * n_spans
        if dropped is None:
            self._delivered += n_spans
        else:
            self._dropped.setdefault(trace.project, Counter())[dropped] += n_spans

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

    def _owned(self, part: SegmentPart) -> HeldTrace | None:
        """The trace that a part was taken of, if its fence is still valid."""
        if not isinstance(part, SegmentPart):
            raise SpanBufferError("acknowledge and release take the parts that take_due gave")
        trace = self._traces.get((part.project, part.trace_id))
        if trace is None or trace.seal is None:
            return None
        seal = trace.seal
        return trace if part.fence == (seal.owner, seal.token, seal.generation) else None

    def _gone(
        self,
        trace: HeldTrace,
        seal: Seal,
        segment: SegmentPlan,
        part: Part,
        dropped: BufferDropReason | None,
    ) -> None:
        """A part is safe elsewhere: let go of its spans, and remember that they were here."""
        assert seal.tree is not None and seal.plan is not None
        ids = b"".join(ids_of_pieces(part.pieces, seal.tree.entries))
        if seal.plan.left:
            seal.tree.remove(part.pieces)
        trace.free(part.pieces)
        self._count_out(trace, part.n_spans, part.payload_bytes, dropped)
        if self._tombstone_ns:
            key = (trace.project, trace.trace_id)
            until_ns = seal.sealed_ns + self._tombstone_ns
            self._remembered.add(key, segment.root_span_id, ids, until_ns)

    def _finish(self, trace: HeldTrace, seal: Seal) -> None:
        """Nothing that was sealed is left: the next generation begins."""
        tree = seal.tree
        assert tree is not None and seal.plan is not None
        trace.seal = None
        trace.generation += 1
        if not seal.plan.left:
            del trace.entries[: seal.n_entries]
            trace.tree = None
            trace.in_tree = 0
        else:
            trace.tree = tree
            trace.in_tree = seal.n_entries
            if tree.gone > len(tree):
                trace.compact()
        if not trace.entries:
            trace.look_ns = NEVER_NS
            del self._traces[trace.project, trace.trace_id]
            return
        next_ns = seal.plan.next_due_ns
        wish_ns, trace.wish_ns = trace.wish_ns, NEVER_NS
        self._queue(trace, wish_ns if next_ns is None else min(next_ns, wish_ns))
