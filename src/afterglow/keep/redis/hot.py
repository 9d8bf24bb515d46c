"""The back end in PostgreSQL with copies of its entries before it, in Redis.

PostgreSQL is the truth; a copy is right because of two numbers in the partition's row there.
`version` counts the transactions that write in it. Before one commits, it marks in Redis the
entries that it changes, with the version it makes; a reader that saw an older version cannot
fill over such a mark. `epoch` says which copies count at all: a transaction that cannot mark
(Redis is away, or full, or everything changes) makes a new one. So a copy that this process sees
is never older than its look at the row, and a look is at most _LOOK_NS old.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import msgspec

from afterglow.clock import Clock
from afterglow.keep.backend import (
    Bond,
    Candidate,
    Changes,
    Cycle,
    Found,
    Pair,
    Selection,
    Totals,
    Written,
)
from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.postgres.backend import PostgresBackend, Seen
from afterglow.keep.profile import QuotaPolicy
from afterglow.keep.redis.copies import Copy
from afterglow.keep.redis.tier import HotTier

__all__ = ["HotBackend"]

#: How long a look at the partition's row serves: the bound on what others see late.
_LOOK_NS = 1_000_000_000
#: A reader that took longer than this fills nothing in; a commit that took longer than this
#: after its marks makes a new epoch. Twice this is less than a mark lives.
_SLOW_NS = 20_000_000_000


_backends: weakref.WeakSet[HotBackend] = weakref.WeakSet()


class _Look(msgspec.Struct, frozen=True):
    partition_id: int
    version: int
    epoch: int
    moment: Moment
    at_ns: int


class HotBackend:
    """Reads by id come from the tier where it has them; all else is PostgreSQL's."""

    def __init__(self, postgres: PostgresBackend, tier: HotTier, clock: Clock) -> None:
        self.partition = postgres.partition
        self.tier = tier
        self._postgres = postgres
        self._clock = clock
        self._look: _Look | None = None
        self._lock = threading.Lock()
        self._marked = threading.local()
        postgres.watch(self)
        _backends.add(self)

    # --- reading --------------------------------------------------------------------------

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        look = self._looked()
        copies: dict[str, Copy] = {}
        if look.partition_id and ids:
            copies, later = self.tier.take(look.partition_id, look.epoch, ids)
            if later or self.tier.suspect:
                # Copies of an epoch that is over, or that may have been marked as changed.
                copies = {}
                look = self._looked(anew=later)
        missing = [trace_id for trace_id in ids if trace_id not in copies]
        records: dict[str, Record] = {i: copy.record for i, copy in copies.items()}
        linked: dict[str, Links] = {i: copy.links for i, copy in copies.items()}
        moment = look.moment
        if missing:
            found = self._fetch(missing)
            moment = found.moment
            records.update(found.records)
            linked.update(found.links)
        return Found(moment, records, linked if links else {})

    def _fetch(self, ids: Sequence[str]) -> Found:
        """From PostgreSQL, and into the tier."""
        began_ns = self._clock.monotonic_ns()
        seen: Seen = self._postgres.look(ids, links=True)
        found = seen.found
        if seen.partition_id:
            self._note(seen.partition_id, seen.version, seen.epoch, found.moment, began_ns)
        copies = {i: Copy(record, found.links[i]) for i, record in found.records.items()}
        if copies and self._clock.monotonic_ns() - began_ns < _SLOW_NS:
            self.tier.fill(seen.partition_id, seen.version, seen.epoch, copies)
        return found

    def _looked(self, *, anew: bool = False) -> _Look:
        """The partition's row, as it was at most _LOOK_NS ago."""
        if self.tier.suspect and not self.tier.resting and self.tier.answers():
            # It is back from somewhere: with copies, maybe, that were marked as changed.
            self.tier.suspect = False
            try:
                self._postgres.forget_copies()
            except BaseException:
                self.tier.suspect = True
                raise
            anew = True
        now_ns = self._clock.monotonic_ns()
        look = self._look
        if look is None or anew or now_ns - look.at_ns > _LOOK_NS:
            self._note(*self._postgres.standing(), now_ns)
            look = self._look
        assert look is not None
        return look

    def _note(
        self, partition_id: int, version: int, epoch: int, moment: Moment, at_ns: int
    ) -> None:
        with self._lock:
            look = self._look
            if look is None or version >= look.version or partition_id != look.partition_id:
                self._look = _Look(partition_id, version, epoch, moment, at_ns)

    # --- told by PostgreSQL's transactions (the watcher) -------------------------------------

    def changing(self, partition_id: int, version: int, epoch: int, ids: Sequence[str]) -> bool:
        self._marked.at_ns = self._clock.monotonic_ns()
        return self.tier.mark(partition_id, version, epoch, ids)

    def changed(self, partition_id: int, version: int, epoch: int, moment: Moment) -> None:
        now_ns = self._clock.monotonic_ns()
        look = self._look
        if look is not None and look.partition_id == partition_id:
            self._note(partition_id, version, epoch, moment, now_ns)
        elif look is not None and not look.partition_id:
            # The first write made the partition: have another look.
            self._look = None
        marked_ns = getattr(self._marked, "at_ns", now_ns)
        self._marked.at_ns = now_ns
        if now_ns - marked_ns > _SLOW_NS:
            # The marks may be over, and somebody may have filled in what was before.
            self.tier.suspect = True

    # --- all else is PostgreSQL's ------------------------------------------------------------

    def known(self, ids: Sequence[str]) -> set[str]:
        return self._postgres.known(ids)

    def candidates(
        self, selection: Selection, at_least: float = 0.0, limit: int | None = None
    ) -> Iterator[tuple[Moment, list[Candidate]]]:
        return self._postgres.candidates(selection, at_least, limit)

    def bond(self, a: str, b: str) -> Bond:
        return self._postgres.bond(a, b)

    def pairs(self, trace_id: str) -> list[Pair]:
        return self._postgres.pairs(trace_id)

    def apply(self, changes: Changes, now_ns: int) -> Written:
        return self._postgres.apply(changes, now_ns)

    def totals(self) -> Totals:
        return self._postgres.totals()

    def partitions(self) -> list[str]:
        return self._postgres.partitions()

    def advance(self, due: Callable[[Totals], tuple[int, int, int]], now_ns: int) -> Cycle:
        return self._postgres.advance(due, now_ns)

    def evict(
        self,
        max_entries: int,
        max_payload_bytes: int,
        policy: QuotaPolicy,
        protected: Sequence[str],
        now_ns: int,
    ) -> list[str]:
        return self._postgres.evict(max_entries, max_payload_bytes, policy, protected, now_ns)

    def erase(self, selection: Selection, now_ns: int, partition: str | None = None) -> int:
        return self._postgres.erase(selection, now_ns, partition)

    def tiers(self, bounds: Sequence[int], now_ns: int) -> tuple[list[int], int]:
        return self._postgres.tiers(bounds, now_ns)

    def export(self) -> Iterator[list[Record] | list[Pair]]:
        return self._postgres.export()

    def replace(
        self, content: Iterator[list[Record] | list[Pair]], moment: Moment, now_ns: int
    ) -> int:
        return self._postgres.replace(content, moment, now_ns)

    def counters(self) -> dict[str, int]:
        """What the tier did so far (docs/ledger.md)."""
        return self.tier.counters()

    def close(self) -> None:
        try:
            self._postgres.close()
        finally:
            self.tier.close()

    def after_fork(self) -> None:
        """In a forked child: nobody is within these locks."""
        self._lock = threading.Lock()
        self.tier.after_fork()


def _after_fork_in_child() -> None:
    for backend in list(_backends):
        backend.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
