"""The state of the memory buffer: what its lock owns, and every change of it.

All here is called with the lock held. Who calls it, and when, is in memory.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from heapq import heappush

from afterglow.assembly import Part, Piece, SegmentPlan, Subsegment, Tree, ids_of_pieces
from afterglow.buffer.held import NEVER_NS, HeldEntry, HeldTrace, Seal
from afterglow.buffer.held_books import HeldBooks
from afterglow.buffer.intake_journal import Gone, Journal, NoJournal
from afterglow.buffer.remembered import Remembered
from afterglow.config.buffer import BufferConfig
from afterglow.config.setting import checked
from afterglow.errors import SpanBufferError
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import SegmentPart

__all__ = ["SPAN_BYTES", "HeldTraces", "Queue", "size_of"]

#: About what a span that waits costs beside its payload: 70 bytes in batches with many spans of a
#: trace, 120 with 20, 320 with 4 (CPython 3.13). Not counted is the tree of a trace that is being
#: taken: of one of 300,000 spans it was, for that while, another 1,300 bytes a span.
SPAN_BYTES = 250

Queue = list[tuple[int, int, HeldTrace]]


def size_of(found: list[Subsegment]) -> int:
    """What these take, held."""
    return sum(SPAN_BYTES * len(one.payloads) + sum(one.entry.sizes) for one in found)


class HeldTraces:
    """Traces, their queues, what is remembered of those that went, and the books."""

    def __init__(self, config: BufferConfig | None, journal: Journal | None) -> None:
        config = checked(config or BufferConfig())
        self._journal: Journal = journal or NoJournal()
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
        self._queues: list[Queue] = [[] for _ in range(config.shards)]
        self._pushes = 0
        self._tokens = 0
        self._remembered = Remembered(config.max_held_bytes // 4)
        self._held_bytes = 0
        self._books = HeldBooks()

    def _hold(
        self,
        found: list[Subsegment],
        dropped: dict[str, dict[str, int]],
        now_ns: int,
        mark: int,
    ) -> None:
        """Hold what came, and count it and what is dropped of it."""
        self._remembered.expire(now_ns)
        for project, reasons in dropped.items():
            for reason, count in reasons.items():
                self._books.never_held(project, reason, count)
        self._held_bytes += size_of(found)
        for project, trace_id, entry, payloads in found:
            self._books.came(project, len(payloads))
            key = (project, trace_id)
            trace = self._traces.get(key)
            if trace is None:
                trace = HeldTrace(project, trace_id, self._config.shards)
                self._traces[key] = trace
            trace.entries.append(HeldEntry(entry, payloads, mark))
            # Spans under what went out, or is just going, are due like those under a root.
            soon = trace.seal is not None or key in self._remembered or entry.has_root
            self._look(trace, now_ns + (self._root_look_ns if soon else self._look_ns))

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

    def _give_tree(self, trace: HeldTrace, seal: Seal) -> None:
        tree = trace.tree or Tree(trace.project, trace.trace_id, self._config, {})
        tree.remembered = self._remembered.mapping((trace.project, trace.trace_id))
        trace.tree = None
        seal.tree = tree
        seal.fresh = [
            trace.held_entry(number).entry for number in range(trace.in_tree, seal.n_entries)
        ]

    def _drop_duplicates(self, trace: HeldTrace, pieces: list[Piece]) -> None:
        n_spans = n_bytes = 0
        for number, positions in pieces:
            sizes = trace.held_entry(number).entry.sizes
            n_spans += len(positions)
            n_bytes += sum(sizes[at] for at in positions)
        self._free(trace, pieces)
        self._count_out(trace, n_spans, n_bytes, "duplicate")

    def _count_out(
        self, trace: HeldTrace, n_spans: int, n_bytes: int, dropped: BufferDropReason | None
    ) -> None:
        self._held_bytes -= n_bytes + SPAN_BYTES * n_spans
        self._books.went(trace.project, n_spans, dropped)

    def _free(self, trace: HeldTrace, pieces: list[Piece]) -> None:
        for number, positions in pieces:
            self._journal.left(trace.held_entry(number).mark, len(positions))
        trace.free(pieces)

    def _owned(self, part: SegmentPart) -> HeldTrace | None:
        """The trace that a part was taken of, if its fence is still valid."""
        if not isinstance(part, SegmentPart):
            raise SpanBufferError("acknowledge and release take the parts that take_due gave")
        trace = self._traces.get((part.project, part.trace_id))
        if trace is None or trace.seal is None:
            return None
        seal = trace.seal
        return trace if part.fence == (seal.owner, seal.token, seal.generation) else None

    def _acknowledge(self, parts: Sequence[SegmentPart], dropped: BufferDropReason | None) -> int:
        """Forget those of these parts whose fence is valid; how many there were."""
        going: list[tuple[HeldTrace, Seal, Part, Gone]] = []
        for part in parts:
            trace = self._owned(part)
            if trace is None or trace.seal is None:
                continue
            seal = trace.seal
            found = seal.waiting.pop(part.message_id, None)
            if found is not None:
                going.append((trace, seal, found[1], self._gone(trace, seal, *found, dropped)))
        if going:
            self._journal.gone([gone for *_, gone in going])
        for trace, seal, planned, gone in going:
            self._let_go(trace, seal, planned, gone, dropped)
        for trace, seal, _, _ in going:
            if trace.seal is seal and not seal.waiting:
                self._finish(trace, seal)
        return len(going)

    def _gone(
        self,
        trace: HeldTrace,
        seal: Seal,
        segment: SegmentPlan,
        part: Part,
        dropped: BufferDropReason | None,
    ) -> Gone:
        assert seal.tree is not None
        ids = b"".join(ids_of_pieces(part.pieces, seal.tree.entries))
        until_ns = seal.sealed_ns + self._tombstone_ns
        return Gone(trace.project, trace.trace_id, segment.root_span_id, ids, until_ns, dropped)

    def _let_go(
        self,
        trace: HeldTrace,
        seal: Seal,
        part: Part,
        gone: Gone,
        dropped: BufferDropReason | None,
    ) -> None:
        """A part is safe elsewhere: let go of its spans, and remember that they were here."""
        assert seal.tree is not None and seal.plan is not None
        if seal.plan.left:
            seal.tree.remove(part.pieces)
        self._free(trace, part.pieces)
        self._count_out(trace, part.n_spans, part.payload_bytes, dropped)
        if self._tombstone_ns:
            key = (trace.project, trace.trace_id)
            self._remembered.add(key, gone.root_span_id, gone.span_ids, gone.until_ns)

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
