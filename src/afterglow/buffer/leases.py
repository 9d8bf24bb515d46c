"""What one `take_due` knows of a trace that it sealed: the plan, and how it is to be settled.

Parts carry their lease along, so that acknowledging needs no memory of the buffer object.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from afterglow.assembly import Part, Piece, Plan, SegmentPlan
from afterglow.buffer.codec import INLINE, Stored, encode_left, encode_record
from afterglow.buffer.kept_trees import KeptTree
from afterglow.buffer.layouts import ChunkReader
from afterglow.model.segment import Fence, SegmentPart

__all__ = ["Lease", "LeasedPart", "PlannedPart", "Settlement"]


class Settlement(NamedTuple):
    """What is to be done with a sealed trace once its parts are safe.

    `taken` entries leave the list, `back` returns to its head (the last first); `chunks` are
    those whose payloads are to be removed, from whichever layout has them, `record` remembers them.
    """

    taken: int
    duplicates: int
    expired: int
    next_look_us: int | None
    record: bytes
    back: Sequence[bytes]
    chunks: tuple[bytes, ...]


class PlannedPart(NamedTuple):
    """A part of the plan; `number` counts over all parts of the lease."""

    lease: Lease
    number: int
    segment: SegmentPlan
    part: Part


@dataclass(slots=True, eq=False)
class Lease:
    """One sealed generation of one trace, held by one owner.

    Shared by the parts that came out of it, which threads may acknowledge at the same time; the
    lock guards `acknowledged`.
    """

    bucket: int
    name: bytes
    project: str
    trace_id: bytes
    fence: Fence
    n_sealed: int
    sealed_ns: int
    reader: ChunkReader
    stored: list[Stored]
    plan: Plan
    #: Spans of chunks that are not there any more, by what became of them.
    lost_duplicates: int = 0
    lost_expired: int = 0
    acknowledged: set[int] = field(default_factory=set)
    #: The tree that the plan came out of.
    kept: KeptTree | None = None
    index_of: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_new(self) -> bool:
        """Whether nobody had it sealed before."""
        return self.fence.token == self.fence.generation

    @property
    def lost(self) -> int:
        """Spans of chunks that are not there any more."""
        return self.lost_duplicates + self.lost_expired

    @property
    def is_idle(self) -> bool:
        """Whether it stays as it is: nothing is due, and repeats can wait for what they repeat."""
        return not self.plan.segments and not self.lost and self.plan.left > 0

    @property
    def total(self) -> int:
        """How many parts there are."""
        return sum(len(segment.parts) for segment in self.plan.segments)

    def parts(self) -> Iterator[PlannedPart]:
        """The parts that are not acknowledged yet, in order."""
        index = 0
        for segment in self.plan.segments:
            for part in segment.parts:
                self.index_of[part.message_id] = index
                if index not in self.acknowledged:
                    yield PlannedPart(self, index, segment, part)
                index += 1

    def settlement(self) -> Settlement:
        """How to settle it, from the plan."""
        plan = self.plan
        duplicates = sum(len(piece.positions) for piece in plan.duplicates)
        next_us = None if plan.next_due_ns is None else plan.next_due_ns // 1_000
        if self.is_idle:
            return Settlement(0, 0, 0, next_us, b"", (), ())
        back, gone = self._left() if plan.left else ([], self.stored)
        staying = {stored.chunk for _, stored in back}
        chunks = tuple(
            dict.fromkeys(
                stored.chunk
                for stored in gone
                if stored.places != INLINE and stored.chunk not in staying
            )
        )
        fence = (self.fence.generation, self.fence.token)
        record = encode_record(fence, self.sealed_ns, bytes(8), (), chunks) if chunks else b""
        return Settlement(
            self.n_sealed,
            duplicates + self.lost_duplicates,
            self.lost_expired,
            next_us,
            record,
            [member for member, _ in reversed(back)],
            chunks,
        )

    def _left(self) -> tuple[list[tuple[bytes, Stored]], list[Stored]]:
        """Entries that stay, as they are put back, and those that are wholly gone."""
        out: dict[int, set[int]] = {}
        for piece in self._out():
            out.setdefault(piece.entry, set()).update(piece.positions)
        back: list[tuple[bytes, Stored]] = []
        gone = []
        for number, stored in enumerate(self.stored):
            left_before = stored.left if stored.entry is None else stored.entry.left
            positions: Sequence[int] = range(stored.n_spans) if left_before is None else left_before
            away = out.get(number)
            left = [at for at in positions if at not in away] if away else positions
            if not left:
                gone.append(stored)
            elif not away:
                back.append((stored.raw, stored))
            else:
                back.append((encode_left(stored, left, self.fence.generation), stored))
        return back, gone

    def _out(self) -> Iterator[Piece]:
        for segment in self.plan.segments:
            for part in segment.parts:
                yield from part.pieces
        yield from self.plan.duplicates


class LeasedPart(SegmentPart, frozen=True, kw_only=True):
    """A part that knows the lease it came out of."""

    lease: Lease

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What is printed of it: what a part has, not how it was sealed."""
        return [(name, getattr(self, name)) for name in SegmentPart.__struct_fields__]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"SegmentPart({fields})"
