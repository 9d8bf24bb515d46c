"""The seam between a trace store and the database that keeps its entries.

A back end belongs to one partition of a database. Its methods may be called from several
threads at once and may block; each that writes is one transaction (or several, where it says
so) which is there when the method returns, and waits for other writers rather than fails.
Raises StoreError, with one line that says what to do; whatever it raised for did not happen,
or did so in whole. Anything else that `apply` raises is about a value in what it was given: the
store then finds out which, sets it aside, and writes the rest.

Who owns what: the store decides everything that a rule of keep/decay.py decides, but for two
things that only a transaction can know: that two entries link (at 3 co-activations, neither
with 20 links already), and how many ticks are due. Texts may hold any character but lone
surrogates; ids, kinds and partitions hold no NUL either. Integers are within 64 bits, floats
are finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.profile import QuotaPolicy

__all__ = [
    "LINK_AT",
    "MOST_LINKS",
    "Backend",
    "Bond",
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

#: Co-activations at which two entries link, and the most links that an entry has.
LINK_AT: Final = 3
MOST_LINKS: Final = 20

#: Called inside a transaction that removes entries (deleted, pruned, evicted or erased; not for
#: what a fresh Put replaces), with its connection and their ids. A back end takes it when built.
OnRemoved = Callable[[Any, Sequence[str]], None]


class Put(msgspec.Struct, frozen=True, gc=False):
    """Keep this record whole. `fresh`: whatever was there under its id goes first, with its
    links; its children lose their parent. Else links and children stay."""

    record: Record
    fresh: bool = False


class Coactivation(msgspec.Struct, frozen=True, gc=False):
    """Two entries (a < b) were active together `times` more.

    `link`: None links them if the count is now LINK_AT or more and both have room; True if both
    have room, for the store saw that; False not at all, for the store saw a full one. Linked
    ones stay linked. If either entry is not there, nothing happens (counted as missing).
    """

    a: str
    b: str
    times: int
    link: bool | None = None


class Changes(msgspec.Struct, frozen=True):
    """What one transaction of a flush writes, in this order."""

    #: Removed with their links; children lose their parent. Not there: nothing happens.
    gone: Sequence[str] = ()
    puts: Sequence[Put] = ()
    #: Only reinforced: anchor, anchor_tick, prune_tick, last_reinforced, reinforcement_count,
    #: and peak_strength (the greater stays) of a row. One that is not there stays away (missing).
    touched: Sequence[Record] = ()
    links: Sequence[Coactivation] = ()
    #: Entries newly stored, for time by volume.
    ingested: int = 0


class Written(msgspec.Struct):
    """What a transaction came to, and where decay stands after it.

    `rows` counts rows of any table that were inserted, changed or deleted; `missing` touched
    entries and links that came to nothing because somebody removed the entry.
    """

    rows: int = 0
    entries: int = 0
    links: int = 0
    tombstones: int = 0
    missing: int = 0
    moment: Moment = Moment()


class Selection(msgspec.Struct, frozen=True):
    """Which entries are asked for: all, of a kind, or with a tag."""

    by: Literal["all", "kind", "tag"] = "all"
    value: str = ""


class Candidate(msgspec.Struct, frozen=True, gc=False):
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


class Pair(msgspec.Struct, frozen=True, gc=False):
    """How often two entries were active together, and whether they are linked."""

    a: str
    b: str
    count: int
    linked: bool


class Bond(msgspec.Struct, frozen=True):
    """What there is between two entries; `a_linked` and `b_linked` are the ids that each is
    linked with, None where there is no such entry."""

    count: int = 0
    linked: bool = False
    a_linked: tuple[str, ...] | None = None
    b_linked: tuple[str, ...] | None = None


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
    """What a decay cycle did; also its stored summary. `maintained_at` is ns since 1970.

    The counts are attributes and items: `cycle.pruned`, `cycle["pruned"]`, `dict(cycle)`.
    """

    decayed: int
    pruned: int
    total: int
    remaining: int
    maintained_at: int
    ticks: int = 0

    def keys(self) -> tuple[str, ...]:
        """The names of the counts."""
        return self.__struct_fields__

    def __getitem__(self, name: str) -> int:
        if name not in self.__struct_fields__:
            raise KeyError(name)
        count: int = getattr(self, name)
        return count


class Backend(Protocol):
    """See the module. Ids that are not there are left out of answers, never an error.

    The partition's row (Totals) is made by the first write, with `ticked_at` = its `now_ns`;
    before that, reading finds nothing and an empty Totals.
    """

    partition: str

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        """Records by id, and (if `links`) links and children of these ids, sorted by id.

        Links and children are given also for ids without a record, if there are any.
        """
        ...

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids are there."""
        ...

    def candidates(
        self, selection: Selection, at_least: float = 0.0, limit: int | None = None
    ) -> Iterator[tuple[Moment, list[Candidate]]]:
        """All that match, in portions, from one snapshot, in any order. May leave out what is
        weaker than `at_least`, such as entries whose anchor is, and all but the `limit`
        strongest (of equal ones, those of the smallest ids)."""
        ...

    def bond(self, a: str, b: str) -> Bond:
        """What there is between two entries."""
        ...

    def pairs(self, trace_id: str) -> list[Pair]:
        """The co-activations of an entry, `a` being the entry asked for."""
        ...

    def apply(self, changes: Changes, now_ns: int) -> Written:
        """One transaction, with the totals."""
        ...

    def totals(self) -> Totals:
        """One row."""
        ...

    def partitions(self) -> list[str]:
        """The partitions of this database that hold anything."""
        ...

    def advance(self, due: Callable[[Totals], tuple[int, int, int]], now_ns: int) -> Cycle:
        """Advance the tick as `due(totals)` says: ticks, the new `ticked_at`, and the new
        `ingested`, in one transaction (locked from reading to writing); then remove what has a
        prune_tick <= the tick, a portion a transaction; then keep the summary.

        At most one row is written where nothing is removed, `moment.advanced_at` being `now_ns`
        where there were ticks. `decayed` are the fading ones that remain (0 without ticks).
        """
        ...

    def evict(
        self,
        max_entries: int,
        max_payload_bytes: int,
        policy: QuotaPolicy,
        protected: Sequence[str],
        now_ns: int,
    ) -> list[str]:
        """Remove, in the order of `policy`, until no more than so many entries and bytes are
        there, and not one more (asked inside each transaction, for others evict as well); never
        of a protected kind. Their ids.

        lru: by last_reinforced; lowest_confidence: by confidence, then last_reinforced; soonest:
        by prune_tick (None last), then last_reinforced. Smallest first, ties by trace_id.
        """
        ...

    def erase(self, selection: Selection, now_ns: int, partition: str | None = None) -> int:
        """Remove all that match, a portion a transaction; how many. `partition` names another
        one of the same database."""
        ...

    def tiers(self, bounds: Sequence[int], now_ns: int) -> tuple[list[int], int]:
        """How many entries were last reinforced within (bounds[i], bounds[i + 1]], and when this
        was asked before (0: never); notes `now_ns` as the time of asking."""
        ...

    def export(self) -> Iterator[list[Record] | list[Pair]]:
        """Everything, from one snapshot: portions of records, then of pairs (each once, a < b)."""
        ...

    def replace(
        self, content: Iterator[list[Record] | list[Pair]], moment: Moment, now_ns: int
    ) -> int:
        """All that is there goes and this comes, in one transaction; how many records came.

        What `content` raises comes out, and nothing has changed.
        """
        ...

    def close(self) -> None:
        """Give everything back; whatever is called after this raises StoreError."""
        ...
