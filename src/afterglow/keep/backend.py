"""The seam between a trace store and the database that keeps its entries.

A back end belongs to one partition. Its methods may be called from several threads at once and
may block; each that writes is one transaction (or several, where it says so) which is there
when the method returns. Raises StoreError, with one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.profile import QuotaPolicy

__all__ = [
    "Backend",
    "Candidate",
    "Changes",
    "Coactivation",
    "Cycle",
    "Found",
    "OnRemoved",
    "Pair",
    "Put",
    "Selection",
    "Totals",
    "Written",
]

#: Called inside the transaction that removes entries, with its connection and their ids.
OnRemoved = Callable[[Any, Sequence[str]], None]


class Put(msgspec.Struct, frozen=True):
    """Keep this record whole. `fresh`: whatever was there under its id goes first, with links."""

    record: Record
    fresh: bool = False


class Coactivation(msgspec.Struct, frozen=True):
    """Two entries (a < b) were active together `times` more; link them if the rule allows."""

    a: str
    b: str
    times: int


class Changes(msgspec.Struct, frozen=True):
    """What one transaction of a flush writes, in this order."""

    gone: Sequence[str] = ()
    puts: Sequence[Put] = ()
    #: Only reinforced: six columns of a row that is there. One that is not there stays away.
    touched: Sequence[Record] = ()
    links: Sequence[Coactivation] = ()
    #: Entries newly stored, for time by volume.
    ingested: int = 0


class Written(msgspec.Struct):
    """What a transaction came to; `missing` counts touched entries that others removed."""

    rows: int = 0
    entries: int = 0
    links: int = 0
    tombstones: int = 0
    missing: int = 0


class Selection(msgspec.Struct, frozen=True):
    """Which entries are asked for: all, of a kind, or with a tag."""

    by: Literal["all", "kind", "tag"] = "all"
    value: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """As much of an entry as its strength needs. The columns are Record's."""

    trace_id: str
    curve: Literal["power", "exponential"]
    decay_rate: float
    anchor: float
    anchor_tick: int
    intensity: float


class Found(msgspec.Struct, frozen=True):
    """Records by id, with their links where those were asked for."""

    moment: Moment
    records: dict[str, Record]
    links: dict[str, Links]


class Pair(msgspec.Struct, frozen=True):
    """How often two entries were active together, and whether they are linked."""

    a: str
    b: str
    count: int
    linked: bool


class Totals(msgspec.Struct, frozen=True):
    """What the partition holds; kept up with each change, so asking costs one row."""

    entries: int = 0
    payload_bytes: int = 0
    #: Entries with a rate above 0.
    fading: int = 0
    ingested: int = 0
    changed_at: int = 0
    moment: Moment = Moment()
    tiered_at: int = 0
    #: JSON of the last decay cycle's summary.
    last_cycle: str | None = None


class Cycle(msgspec.Struct, frozen=True):
    """What a decay cycle did; also its stored summary. `maintained_at` is ns since 1970."""

    decayed: int
    pruned: int
    total: int
    remaining: int
    maintained_at: int
    ticks: int = 0


class Backend(Protocol):
    """See the module. Ids that are not there are left out of answers, never an error."""

    partition: str

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        """Records by id, and their links and children if `links`."""
        ...

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids are there."""
        ...

    def candidates(self, selection: Selection) -> Iterator[tuple[Moment, list[Candidate]]]:
        """All that match, in portions, from one snapshot."""
        ...

    def pairs(self, trace_id: str) -> list[Pair]:
        """The co-activations of an entry, `a` being the entry asked for."""
        ...

    def apply(self, changes: Changes, now_ns: int) -> Written:
        """One transaction."""
        ...

    def totals(self) -> Totals:
        """One row."""
        ...

    def advance(self, due: Callable[[Totals], tuple[int, int, int]], now_ns: int) -> Cycle:
        """Advance the tick as `due(totals)` says: ticks, the new `ticked_at`, and the new
        `ingested`; then remove what is due, a portion a transaction."""
        ...

    def evict(
        self, entries: int, payload_bytes: int, policy: QuotaPolicy, protected: Sequence[str]
    ) -> list[str]:
        """Remove as many as it takes to free so much, and no more; their ids."""
        ...

    def erase(self, selection: Selection) -> int:
        """Remove all that match, a portion a transaction; how many."""
        ...

    def tiers(self, bounds: Sequence[int], now_ns: int) -> tuple[list[int], int]:
        """How many entries were last reinforced within (bounds[i], bounds[i + 1]], and when this
        was asked before (0: never); notes `now_ns` as the time of asking."""
        ...

    def export(self) -> Iterator[list[Record] | list[Pair]]:
        """Everything, from one snapshot: portions of records, then of pairs (each once)."""
        ...

    def replace(self, content: Iterator[list[Record] | list[Pair]], moment: Moment) -> int:
        """All that is there goes and this comes, in one transaction; how many records came."""
        ...

    def close(self) -> None:
        """Give everything back; whatever is called after this raises StoreError."""
        ...
