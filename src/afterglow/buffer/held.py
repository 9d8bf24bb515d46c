"""What the memory buffer holds of one trace, and how a part of it is sealed for a flusher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from afterglow.assembly import Entry, Part, Piece, Plan, SegmentPlan, Tree, index_bucket

__all__ = ["NEVER_NS", "HeldEntry", "HeldTrace", "Seal"]

NEVER_NS = 1 << 100


class HeldEntry:
    """An entry with its payloads; `live` of its spans have not gone yet. `mark`: see Journal."""

    __slots__ = ("entry", "live", "mark", "payloads")

    def __init__(self, entry: Entry, payloads: list[bytes], mark: int) -> None:
        self.entry = entry
        self.mark = mark
        self.payloads: list[bytes | None] = list(payloads)
        self.live = len(payloads)

    def chosen(self, positions: Sequence[int]) -> list[bytes]:
        """The payloads at these positions, none of which has gone."""
        if len(positions) == len(self.payloads):
            return cast(list[bytes], self.payloads)
        if isinstance(positions, range):
            return cast(list[bytes], self.payloads[positions.start : positions.stop])
        return cast(list[bytes], [self.payloads[at] for at in positions])

    def free(self, positions: Sequence[int]) -> None:
        """Let go of payloads."""
        self.live -= len(positions)
        for at in positions:
            self.payloads[at] = None

    def slim(self) -> HeldEntry:
        """The same without what has gone."""
        if self.live == len(self.payloads):
            return self
        entry = self.entry
        places = [at for at, payload in enumerate(self.payloads) if payload is not None]
        slim = Entry(
            entry.time_ns,
            b"".join([entry.span_ids[8 * at : 8 * at + 8] for at in places]),
            b"".join([entry.parents[8 * at : 8 * at + 8] for at in places]),
            bytes([entry.flags[at] for at in places]),
            [entry.sizes[at] for at in places],
        )
        return HeldEntry(slim, [p for p in self.payloads if p is not None], self.mark)


class Seal:
    """What a flusher took of a trace: its first entries, as they are due at one time.

    Whoever holds `token` owns it until the queue says that the lease has run out; then the next
    to come takes it over and gets the same plan. `tree` belongs to the owner until there is a
    plan, then to the buffer's lock.
    """

    __slots__ = ("fresh", "generation", "n_entries", "owner", "plan", "sealed_ns", "token", "tree",
                 "waiting")  # fmt: skip

    def __init__(
        self,
        owner: str,
        token: int,
        generation: int,
        sealed_ns: int,
        n_entries: int,
    ) -> None:
        self.owner = owner
        self.token = token
        self.generation = generation
        self.sealed_ns = sealed_ns
        self.n_entries = n_entries
        self.tree: Tree | None = None
        #: Entries that the tree has not seen.
        self.fresh: list[Entry] = []
        self.plan: Plan | None = None
        #: Parts that were not acknowledged, by message id, in order.
        self.waiting: dict[str, tuple[SegmentPlan, Part]] = {}

    def given_to(self, owner: str, token: int) -> Seal:
        """The same, with another owner: the fence of the one before is worth nothing now."""
        seal = Seal(owner, token, self.generation, self.sealed_ns, self.n_entries)
        seal.plan = self.plan
        seal.waiting = self.waiting
        if self.plan is not None:
            seal.tree = self.tree
        return seal


class HeldTrace:
    """What is held of one trace. Entries that have gone are None while the tree counts them."""

    __slots__ = ("entries", "generation", "in_tree", "look_ns", "project", "seal", "shard",
                 "trace_id", "tree", "wish_ns")  # fmt: skip

    def __init__(self, project: str, trace_id: bytes, shards: int) -> None:
        self.project = project
        self.trace_id = trace_id
        self.shard = index_bucket(project, trace_id) % shards
        self.entries: list[HeldEntry | None] = []
        #: How many of the entries `tree` has seen.
        self.in_tree = 0
        self.tree: Tree | None = None
        self.generation = 0
        #: When a flusher is to look at it, and, while it is sealed, when after that.
        self.look_ns = NEVER_NS
        self.wish_ns = NEVER_NS
        self.seal: Seal | None = None

    def held_entry(self, number: int) -> HeldEntry:
        """An entry that has spans."""
        held = self.entries[number]
        assert held is not None, "an entry went before its spans"
        return held

    def free(self, pieces: Iterable[Piece]) -> None:
        """Let go of spans; entries without any are None."""
        for number, positions in pieces:
            held = self.held_entry(number)
            if len(positions) == held.live:
                self.entries[number] = None
            else:
                held.free(positions)

    def compact(self) -> None:
        """Let go of what has gone from among the entries; the tree must be planted anew."""
        self.entries = [held.slim() for held in self.entries if held is not None]
        self.tree = None
        self.in_tree = 0
