"""The back end of one partition in PostgreSQL: each method of the seam, in transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.keep.backend import (
    Bond,
    Candidate,
    Changes,
    Cycle,
    Found,
    OnRemoved,
    Pair,
    Selection,
    Totals,
    Written,
)
from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.postgres import sql
from afterglow.keep.postgres.changes import write_changes, write_pairs, write_records
from afterglow.keep.postgres.removal import remove
from afterglow.keep.postgres.rows import record_of
from afterglow.keep.postgres.schema import migrate
from afterglow.keep.postgres.transactions import Locked, Transactions, Watcher, totals_of
from afterglow.keep.profile import QuotaPolicy
from afterglow.store.postgres.connections import Connection, Connections
from afterglow.store.postgres.failures import explained
from afterglow.store.postgres.text import kept, read, tag_key

__all__ = ["PostgresBackend", "Seen"]

T = TypeVar("T")

#: So many entries go in one transaction, for others wait meanwhile.
_PORTION = 1_000
_LARGEST = (1 << 63) - 1


class Seen(msgspec.Struct, frozen=True):
    """Entries, and the partition's version and epoch at which they were as they are here."""

    found: Found
    partition_id: int = 0
    version: int = 0
    epoch: int = 0


class PostgresBackend:
    """A partition at `url` (postgresql://...), shared with any number of processes.

    Makes the schema `afterglow` in the database, or brings it up to date. `connections` is the
    most that this process has open at once. A server that goes away is waited for, `patience_s`
    long. With `read_only`, no schema is made. Raises SettingError for a URL that is none,
    StoreError where it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        partition: str,
        *,
        connections: int = 8,
        connect_timeout_s: float = 5.0,
        patience_s: float = 30.0,
        on_removed: OnRemoved | None = None,
        read_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.partition = partition
        self._on_removed = on_removed
        self._connections = Connections(
            url,
            limit=connections,
            connect_timeout_s=connect_timeout_s,
            patience_s=patience_s,
            clock=clock or SystemClock(),
        )
        self._transactions = Transactions(self._connections)
        place = self._connections.place
        try:
            with explained(place), self._connections.lent() as connection:
                migrate(connection, place, read_only=read_only)
                row = connection.execute(sql.IDENTITY).fetchone()
        except BaseException:
            self._connections.close()
            raise
        #: Which database this is: a fresh one has another, whatever its name.
        self.identity: str = row[0] if row else ""

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of each change that is written through this back end."""
        self._transactions.watcher = watcher

    # --- reading --------------------------------------------------------------------------

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        return self.look(ids, links=links).found

    def look(self, ids: Sequence[str], *, links: bool) -> Seen:
        """What `read` gives, and at which version of the partition it was so."""
        wanted = {kept(i) for i in ids}
        query = sql.READ_LINKED if links else sql.READ
        rows = self._rows(query, binary=True, ids=sorted(wanted))
        if not rows:
            return Seen(self._nothing())
        records: dict[str, Record] = {}
        linked: dict[str, Links] = {}
        for row in rows:
            if links:
                key, associated, children, entry = row[6], row[7], row[8], row[9:]
                if associated or children or entry[0] is not None:
                    linked[read(key)] = Links(_texts(associated), _texts(children))
            else:
                entry = row[6:]
            if entry[0] is not None:
                record = record_of(entry)
                records[record.trace_id] = record
        partition_id, version, epoch, tick, ticked_at, advanced_at = rows[0][:6]
        found = Found(Moment(tick, ticked_at, advanced_at), records, linked)
        return Seen(found, partition_id, version, epoch)

    def _nothing(self) -> Found:
        # No row: the partition is not there, or no entry of no ids was asked for.
        return Found(self.totals().moment, {}, {})

    def known(self, ids: Sequence[str]) -> set[str]:
        return {read(key) for (key,) in self._rows(sql.KNOWN, ids=[kept(i) for i in ids])}

    def candidates(
        self, selection: Selection, at_least: float = 0.0, limit: int | None = None
    ) -> Iterator[tuple[Moment, list[Candidate]]]:
        parameters = {"at_least": at_least, "value": _value(selection)}
        queries = [(sql.CANDIDATES[selection.by], parameters)]
        for _, partition, rows in self._transactions.stream(queries, self.partition):
            moment = totals_of(partition).moment
            yield moment, [Candidate(read(row[0]), *row[1:]) for row in rows]

    def bond(self, a: str, b: str) -> Bond:
        keys = [kept(a), kept(b)]
        rows = {
            row[0]: row[1:] for row in self._rows(sql.BOND, a=keys[0], b=keys[1], ids=sorted(keys))
        }
        if not rows:
            return Bond()
        sides = [_texts(rows[key][1]) if rows[key][0] else None for key in keys]
        return Bond(
            count=rows[keys[0]][2] or 0,
            linked=b in (sides[0] or ()),
            a_linked=sides[0],
            b_linked=sides[1],
        )

    def pairs(self, trace_id: str) -> list[Pair]:
        rows = self._rows(sql.PAIRS, a=kept(trace_id))
        return [Pair(read(a), read(b), count, linked) for a, b, count, linked in rows]

    def totals(self) -> Totals:
        rows = self._rows(sql.PARTITION)
        return totals_of(rows[0]) if rows else Totals()

    def partitions(self) -> list[str]:
        return sorted(read(name) for (name,) in self._rows(sql.PARTITIONS))

    def standing(self) -> tuple[int, int, int, Moment]:
        """The partition's id, version, epoch and moment; id 0 before the first write."""
        rows = self._rows(sql.PARTITION)
        if not rows:
            return 0, 0, 0, Moment()
        return *rows[0][:3], totals_of(rows[0]).moment

    def forget_copies(self) -> None:
        """Let no copy of the partition's entries count any more, wherever it is."""

        def work(locked: Locked) -> None:
            locked.everything = True

        if self._rows(sql.PARTITION):
            self._write(0, work)

    # --- writing --------------------------------------------------------------------------

    def apply(self, changes: Changes, now_ns: int) -> Written:
        def work(locked: Locked) -> tuple[Written, Locked]:
            return write_changes(locked, changes, now_ns, self._on_removed), locked

        written, locked = self._write(now_ns, work)
        written.rows, written.moment = locked.rows, locked.moment
        return written

    def advance(self, due: Callable[[Totals], tuple[int, int, int]], now_ns: int) -> Cycle:
        cycle: Cycle | None = None

        def begin(locked: Locked) -> tuple[Cycle, bool]:
            total = locked.entries
            ticks, locked.ticked_at, locked.ingested = due(locked.totals())
            locked.tick += ticks
            if ticks:
                locked.advanced_at = now_ns
            return self._prune(locked, Cycle(0, 0, total, 0, now_ns, ticks))

        def go_on(locked: Locked) -> tuple[Cycle, bool]:
            assert cycle is not None
            return self._prune(locked, cycle)

        cycle, more = self._write(now_ns, begin)
        while more:
            cycle, more = self._write(now_ns, go_on)
        return cycle

    def _prune(self, locked: Locked, cycle: Cycle) -> tuple[Cycle, bool]:
        """Remove a portion of what is due; the cycle so far, and whether there may be more."""
        found = locked.execute(sql.DUE, tick=locked.tick, portion=_PORTION).fetchall()
        removed = self._remove(locked, [read(key) for (key,) in found], cycle.maintained_at)
        cycle = Cycle(
            decayed=locked.fading if cycle.ticks else 0,
            pruned=cycle.pruned + len(removed),
            total=cycle.total,
            remaining=locked.entries,
            maintained_at=cycle.maintained_at,
            ticks=cycle.ticks,
        )
        more = len(found) == _PORTION
        if not more:
            locked.last_cycle = msgspec.json.encode(cycle).decode()
        return cycle, more

    def evict(
        self,
        max_entries: int,
        max_payload_bytes: int,
        policy: QuotaPolicy,
        protected: Sequence[str],
        now_ns: int,
    ) -> list[str]:
        kinds = [kept(kind) for kind in protected]

        def portion(locked: Locked) -> list[str]:
            # Asked under the lock: others evict as well.
            entries = locked.entries - max_entries
            size = locked.payload_bytes - max_payload_bytes
            if entries <= 0 and size <= 0:
                return []
            chosen = []
            rows = locked.execute(sql.EVICT[policy], protected=kinds, portion=_PORTION)
            for key, freed in rows:
                chosen.append(read(key))
                entries, size = entries - 1, size - freed
                if entries <= 0 and size <= 0:
                    break
            return self._remove(locked, chosen, now_ns)

        return [i for removed in self._portions(self.partition, portion) for i in removed]

    def erase(self, selection: Selection, now_ns: int, partition: str | None = None) -> int:
        def portion(locked: Locked) -> list[str]:
            found = locked.execute(
                sql.SELECTED[selection.by], value=_value(selection), portion=_PORTION
            ).fetchall()
            return self._remove(locked, [read(key) for (key,) in found], now_ns)

        name = self.partition if partition is None else partition
        return sum(len(removed) for removed in self._portions(name, portion))

    def _portions(self, name: str, portion: Callable[[Locked], list[str]]) -> Iterator[list[str]]:
        """What each transaction removed, until one finds nothing."""
        # A partition is made by what is stored in it, not by looking for something to remove.
        if self._rows(sql.PARTITION, name=kept(name)):
            while removed := self._transactions.write(name, 0, portion):
                yield removed

    def _remove(self, locked: Locked, ids: Sequence[str], now_ns: int) -> list[str]:
        removed = remove(locked, ids, self._on_removed)
        if removed:
            locked.changed_at = now_ns
        return removed

    def tiers(self, bounds: Sequence[int], now_ns: int) -> tuple[list[int], int]:
        within = [max(-_LARGEST, min(_LARGEST, bound)) for bound in bounds]

        def note(locked: Locked) -> int:
            before, locked.tiered_at = locked.tiered_at, now_ns
            return int(before)

        rows = self._rows(sql.TIERS, low=within[:-1], high=within[1:])
        counts = [count for (count,) in rows] or [0] * (len(bounds) - 1)
        return counts, self._write(now_ns, note)

    # --- whole partitions -----------------------------------------------------------------

    def export(self) -> Iterator[list[Record] | list[Pair]]:
        queries: list[tuple[Any, dict[str, Any]]] = [
            (sql.EXPORT_ENTRIES, {}),
            (sql.EXPORT_PAIRS, {}),
        ]
        for place, _, rows in self._transactions.stream(queries, self.partition):
            if place == 0:
                yield [record_of(row) for row in rows]
            else:
                yield [Pair(read(a), read(b), *rest) for a, b, *rest in rows]

    def replace(
        self, content: Iterator[list[Record] | list[Pair]], moment: Moment, now_ns: int
    ) -> int:
        def work(locked: Locked) -> int:
            for statement in sql.EMPTY:
                locked.rows += locked.execute(statement).rowcount
            locked.entries = locked.payload_bytes = locked.fading = 0
            locked.tick, locked.ticked_at = moment.tick, moment.ticked_at
            locked.advanced_at, locked.changed_at = moment.advanced_at, now_ns
            locked.everything = True
            came = 0
            for portion in content:
                records = [item for item in portion if isinstance(item, Record)]
                pairs = [item for item in portion if isinstance(item, Pair)]
                write_records(locked, records, set())
                write_pairs(locked, [(kept(p.a), kept(p.b), p.count, p.linked) for p in pairs])
                came += len(records)
                locked.affected.clear()
            return came

        # What was read of `content` is gone: it cannot be done twice.
        return self._transactions.write(self.partition, now_ns, work, once=True)

    def close(self) -> None:
        self._connections.close()

    def _write(self, now_ns: int, work: Callable[[Locked], T]) -> T:
        return self._transactions.write(self.partition, now_ns, work)

    def _rows(self, query: Any, *, binary: bool = False, **parameters: Any) -> list[Any]:
        parameters.setdefault("name", kept(self.partition))

        def work(connection: Connection) -> list[Any]:
            return connection.execute(query, parameters, binary=binary).fetchall()

        return self._transactions.read(work)


def _texts(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(read(key) for key in keys)


def _value(selection: Selection) -> str:
    return tag_key(selection.value) if selection.by == "tag" else kept(selection.value)
