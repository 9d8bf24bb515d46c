"""A segment buffer and, beside it, what it must do: every step is checked as it is made.

The model does not choose which traces a limited take gives first, nor whether a takeover gives
parts that were acknowledged before their owner died once more: there it follows the buffer, and
holds it to what it chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan, Fence, SegmentPart
from afterglow.ports import SegmentBuffer
from tests.contracts.segment_oracle import Held, counted, cut, ns, segments

__all__ = ["Model"]

Key = tuple[str, bytes]
#: A part of a delivery: root, number.
PartName = tuple[bytes, int]


@dataclass
class Seal:
    """What is out with a flusher."""

    n_arrived: int
    #: Every part, in order: what is in it, whether it is the last, whether it is an addendum.
    parts: dict[PartName, tuple[list[BufferedSpan], bool, bool]]
    waiting: set[PartName]
    fence: Fence
    until_ns: int
    message_ids: dict[PartName, str] = field(default_factory=dict)
    #: Why parts were dropped rather than delivered.
    dropped: dict[PartName, str] = field(default_factory=dict)
    #: What was said of each part that was acknowledged.
    said: dict[PartName, str | None] = field(default_factory=dict)


@dataclass
class Trace:
    arrived: list[Held] = field(default_factory=list)
    flushed: dict[bytes, bytes] = field(default_factory=dict)
    seal: Seal | None = None
    #: Message ids of all that ever went out, and what had them.
    known: dict[str, tuple[PartName, tuple[bytes, ...]]] = field(default_factory=dict)


class Model:
    """Drives a buffer; `delivered` and `dropped` are what its books must say in the end."""

    def __init__(self, buffer: SegmentBuffer, config: BufferConfig) -> None:
        self.buffer = buffer
        self.config = config
        self.traces: dict[Key, Trace] = {}
        self.given = 0
        self.delivered = 0
        self.dropped: Counter[tuple[str, str]] = Counter()
        #: Every part that was ever given out.
        self.out: list[SegmentPart] = []

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> None:
        result = self.buffer.add(spans, now_ns)
        assert result.refused == 0, result
        assert result.accepted + sum(result.dropped.values()) == len(spans)
        self.given += len(spans)
        for span in spans:
            trace = self.traces.setdefault((span.project, span.trace_id), Trace())
            trace.arrived.append(Held(span, now_ns))
        self.check_books()

    def take(
        self, now_ns: int, owner: str, max_segments: int = 1_000, max_bytes: int = 1 << 20
    ) -> list[SegmentPart]:
        """Take pages to their end, and check what came."""
        pages = list(
            self.buffer.take_due(
                now_ns, owner=owner, max_segments=max_segments, max_bytes=max_bytes
            )
        )
        for page in pages:
            size = sum(len(payload) for part in page for payload in part.payloads)
            assert page and (len(page) == 1 or size <= max_bytes)
        parts = [part for page in pages for part in page]
        by_trace: dict[Key, list[SegmentPart]] = {}
        for part in parts:
            by_trace.setdefault((part.project, part.trace_id), []).append(part)
        offered = self._offered(now_ns)
        n_segments = n_last = 0
        for key, its_parts in by_trace.items():
            assert n_segments < max_segments, "it took another trace beyond the limit"
            assert key in offered, "nothing of this trace was to be had"
            n_last = self._taken(key, its_parts, now_ns, owner)
            n_segments += n_last
        if n_segments < max_segments:
            assert by_trace.keys() == offered, "something that was due did not come"
        self.out += parts
        self.check_books()
        return parts

    def acknowledge(self, parts: Sequence[SegmentPart], dropped: str | None = None) -> None:
        """Acknowledge any parts, ours or not, once or more often.

        In memory the first word on what became of a part counts, and Redis may take the last:
        nobody says of one part that it was delivered and that it was dropped, nor does this.
        """
        ours = 0
        again = False
        parts = [part for part in parts if self._agrees(part, dropped)]
        for part in parts:
            seal = self._seal_of(part)
            if seal is not None:
                name = (part.root_span_id, part.part)
                seal.said[name] = dropped
                again = again or name not in seal.waiting
                ours += name in seal.waiting
                seal.waiting.discard(name)
                if dropped is not None:
                    seal.dropped.setdefault(name, dropped)
                if not seal.waiting:
                    self._finish((part.project, part.trace_id))
        said = self.buffer.acknowledge(parts, dropped=dropped)  # type: ignore[arg-type]
        assert said == ours or (again and said >= ours)
        self.check_books()

    def _agrees(self, part: SegmentPart, dropped: str | None) -> bool:
        seal = self._seal_of(part)
        return seal is None or seal.said.get((part.root_span_id, part.part), dropped) == dropped

    def release(self, parts: Sequence[SegmentPart]) -> None:
        for part in parts:
            seal = self._seal_of(part)
            if seal is not None:
                seal.until_ns = -1
        self.buffer.release(parts)
        self.check_books()

    def next_ns(self, now_ns: int) -> int | None:
        """The next time at which something is due, or a lease runs out."""
        times = []
        for trace in self.traces.values():
            if trace.seal is not None:
                times.append(trace.seal.until_ns)
            else:
                found = segments(trace.arrived, trace.flushed, self.config)
                times += [segment.due_ns for segment in found]
        return min((time for time in times if time > now_ns), default=None)

    def check_books(self) -> None:
        """Nothing is lost uncounted, at any moment."""
        books = self.buffer.ledger()
        assert books.balanced, books
        assert books.ingested == self.given
        open_spans = sum(
            len(spans)
            for trace in self.traces.values()
            if trace.seal is not None
            for name, (spans, _, _) in trace.seal.parts.items()
            if name not in trace.seal.waiting
        )
        assert self.delivered <= books.delivered <= self.delivered + open_spans

    def check_empty(self) -> None:
        """Everything went out: the books say the same as the model."""
        books = self.buffer.ledger()
        assert books.held == 0
        assert books.delivered == self.delivered
        said = {(project, why): n for project, by in books.dropped.items() for why, n in by.items()}
        assert {what: n for what, n in said.items() if n} == +self.dropped

    def _offered(self, now_ns: int) -> set[Key]:
        offered = set()
        for key, trace in self.traces.items():
            if trace.seal is not None:
                there = trace.seal.until_ns <= now_ns
            else:
                found = segments(trace.arrived, trace.flushed, self.config)
                there = any(segment.due_ns <= now_ns for segment in found)
            if there:
                offered.add(key)
        return offered

    def _taken(self, key: Key, parts: list[SegmentPart], now_ns: int, owner: str) -> int:
        """One trace came; returns how many segments of it."""
        trace = self.traces[key]
        (fence,) = {part.fence for part in parts}
        assert fence.owner == owner
        until_ns = now_ns + ns(self.config.lease_s)
        if trace.seal is None:
            due = [
                segment
                for segment in segments(trace.arrived, trace.flushed, self.config)
                if segment.due_ns <= now_ns
            ]
            expected = {}
            for segment in due:
                cuts = cut(segment.spans, self.config.max_segment_bytes)
                for number, spans in enumerate(cuts):
                    last = number == len(cuts) - 1
                    expected[segment.root, number] = (spans, last, segment.addendum)
            trace.seal = Seal(len(trace.arrived), expected, set(expected), fence, until_ns)
        seal = trace.seal
        names = [(part.root_span_id, part.part) for part in parts]
        assert seal.waiting <= set(names), "parts are missing"
        assert len(set(names)) == len(names), "a part came twice"
        for root in {root for root, _ in names}:
            numbers = [number for its_root, number in names if its_root == root]
            assert numbers == sorted(numbers), "the parts of a segment come in order"
        for name, part in zip(names, parts, strict=True):
            spans, is_last, addendum = seal.parts[name]
            assert part.span_ids == tuple(span.span_id for span in spans)
            assert part.payloads == tuple(span.payload for span in spans)
            assert (part.is_last, part.addendum) == (is_last, addendum)
            assert part.message_id == seal.message_ids.setdefault(name, part.message_id)
            what = (name, part.span_ids)
            assert trace.known.setdefault(part.message_id, what) == what
        seal.waiting = set(names)
        for name in names:
            seal.dropped.pop(name, None)
        seal.fence = fence
        seal.until_ns = until_ns
        return len({root for root, _ in names})

    def _seal_of(self, part: SegmentPart) -> Seal | None:
        seal = self.traces[part.project, part.trace_id].seal
        if seal is None or seal.fence != part.fence:
            return None
        return seal if (part.root_span_id, part.part) in seal.parts else None

    def _finish(self, key: Key) -> None:
        trace = self.traces[key]
        seal = trace.seal
        assert seal is not None
        sealed, later = trace.arrived[: seal.n_arrived], trace.arrived[seal.n_arrived :]
        first = counted(sealed, trace.flushed)
        self.dropped[key[0], "duplicate"] += len(sealed) - len(first)
        gone = set()
        for name, (spans, _, _) in seal.parts.items():
            gone |= {span.span_id for span in spans}
            why = seal.dropped.get(name)
            if why is None:
                self.delivered += len(spans)
            else:
                self.dropped[key[0], why] += len(spans)
            trace.flushed.update({span.span_id: name[0] for span in spans})
        # Repeats of what went out may stay, and are found later.
        trace.arrived = [one for one in first if one.span.span_id not in gone] + later
        trace.seal = None

    def drop_repeats(self) -> None:
        """Count repeats that no delivery came along with; for the end."""
        for (project, _), trace in self.traces.items():
            first = counted(trace.arrived, trace.flushed)
            self.dropped[project, "duplicate"] += len(trace.arrived) - len(first)
            trace.arrived = first
