"""The tick, and removal at large: pruning, quota, erasure, a portion a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from afterglow.clock import breathe
from afterglow.keep.backend import Cycle, OnRemoved, Selection, Totals
from afterglow.keep.entry import Moment
from afterglow.keep.profile import QuotaPolicy
from afterglow.keep.sqlite import sql
from afterglow.keep.sqlite.connections import Connections
from afterglow.keep.sqlite.remove import Deltas, Doomed, remove

__all__ = ["Fading"]

#: Entries that one transaction removes: what other writers wait for at most.
_PORTION: Final = 256


class Fading:
    """The half of SqliteBackend that lets go. Owns the connections."""

    def __init__(
        self, connections: Connections, partition: str, on_removed: OnRemoved | None
    ) -> None:
        self.partition = partition
        self._connections = connections
        self._on_removed = on_removed
        #: The row of the partition, once it was seen committed; it stays for good.
        self._number: int | None = None

    # --- the partition's row --------------------------------------------------------------

    def _moment(self, connection: sqlite3.Connection) -> tuple[int | None, Moment]:
        """The number of the partition, None before its first write, and its moment."""
        row = connection.execute(sql.MOMENT, (self.partition,)).fetchone()
        if row is None:
            return None, Moment()
        self._number = row[0]
        return row[0], Moment(*row[1:])

    def _totals(self, connection: sqlite3.Connection) -> Totals:
        row = connection.execute(sql.TOTALS, (self.partition,)).fetchone()
        if row is None:
            return Totals()
        entries, payload_bytes, fading, ingested, changed_at, tiered_at, cycle, *moment = row
        return Totals(
            entries, payload_bytes, fading, ingested, changed_at, Moment(*moment), tiered_at, cycle
        )

    def _own(self, connection: sqlite3.Connection, now_ns: int) -> int:
        """The number of the partition, whose row is made if need be."""
        if self._number is not None:
            return self._number
        row = connection.execute(sql.PARTITION, (self.partition,)).fetchone()
        if row is None:
            connection.execute(sql.MAKE_PARTITION, (self.partition, now_ns))
            row = connection.execute(sql.PARTITION, (self.partition,)).fetchone()
        number: int = row[0]
        return number

    def _add(
        self, connection: sqlite3.Connection, number: int, deltas: Deltas, now_ns: int
    ) -> Moment:
        """Keep the totals up with what a transaction did."""
        row = connection.execute(
            sql.ADD_TO_TOTALS,
            (
                deltas.entries, deltas.payload_bytes, deltas.fading, deltas.ingested, now_ns,
                number,
            ),
        ).fetchone()  # fmt: skip
        deltas.rows += 1
        return Moment(*row)

    # --- decay ----------------------------------------------------------------------------

    def advance(self, due: Callable[[Totals], tuple[int, int, int]], now_ns: int) -> Cycle:
        with self._connections.writing() as connection:
            number = self._own(connection, now_ns)
            totals = self._totals(connection)
            ticks, ticked_at, ingested = due(totals)
            tick = totals.moment.tick + ticks
            cycle = Cycle(
                decayed=totals.fading if ticks else 0,
                pruned=0,
                total=totals.entries,
                remaining=totals.entries,
                maintained_at=now_ns,
                ticks=ticks,
            )
            advanced_at = now_ns if ticks else totals.moment.advanced_at
            connection.execute(
                sql.ADVANCE,
                (tick, ticked_at, advanced_at, ingested, _text(cycle), number),
            )
            over = connection.execute(sql.IS_DUE, (number, tick)).fetchone() is None
        if over:
            return cycle
        pruned = self._remove_portions(sql.DUE, (tick,), now_ns)
        with self._connections.writing() as connection:
            totals = self._totals(connection)
            cycle = Cycle(
                decayed=totals.fading if ticks else 0,
                pruned=pruned,
                total=cycle.total,
                remaining=totals.entries,
                maintained_at=now_ns,
                ticks=ticks,
            )
            connection.execute(sql.NOTE_CYCLE, (_text(cycle), number))
        return cycle

    # --- quota, erasure, tiers ------------------------------------------------------------

    def evict(
        self,
        max_entries: int,
        max_payload_bytes: int,
        policy: QuotaPolicy,
        protected: Sequence[str],
        now_ns: int,
    ) -> list[str]:
        evicted: list[str] = []
        kinds = msgspec.json.encode(protected).decode()
        while True:
            with self._connections.writing() as connection:
                number = self._own(connection, now_ns)
                totals = self._totals(connection)
                entries = totals.entries - max_entries
                size = totals.payload_bytes - max_payload_bytes
                if entries <= 0 and size <= 0:
                    return evicted
                rows = connection.execute(sql.EVICT[policy], (number, kinds, _PORTION))
                doomed = _enough([Doomed(*row) for row in rows], entries, size)
                if not doomed:
                    return evicted
                self._remove(connection, number, doomed, now_ns)
            evicted += [entry.trace_id for entry in doomed]
            breathe()

    def erase(self, selection: Selection, now_ns: int, partition: str | None = None) -> int:
        values = () if selection.by == "all" else (selection.value,)
        return self._remove_portions(sql.DOOMED[selection.by], values, now_ns, partition)

    def _remove_portions(
        self,
        statement: str,
        values: Sequence[Any],
        now_ns: int,
        partition: str | None = None,
    ) -> int:
        """Remove all that `statement` finds, a portion a transaction; how many."""
        name = self.partition if partition is None else partition
        removed = 0
        while True:
            with self._connections.writing() as connection:
                row = connection.execute(sql.PARTITION, (name,)).fetchone()
                if row is None:
                    return removed
                rows = connection.execute(statement, (row[0], *values, _PORTION)).fetchall()
                if not rows:
                    return removed
                self._remove(connection, row[0], [Doomed(*found) for found in rows], now_ns)
            removed += len(rows)
            breathe()

    def _remove(
        self, connection: sqlite3.Connection, number: int, doomed: list[Doomed], now_ns: int
    ) -> None:
        deltas = Deltas()
        remove(connection, number, doomed, deltas, self._on_removed)
        self._add(connection, number, deltas, now_ns)

    def tiers(self, bounds: Sequence[int], now_ns: int) -> tuple[list[int], int]:
        with self._connections.writing() as connection:
            number = self._own(connection, now_ns)
            before = self._totals(connection).tiered_at
            counts = [
                connection.execute(sql.TIER, (number, low, high)).fetchone()[0]
                for low, high in pairwise(bounds)
            ]
            connection.execute(sql.NOTE_TIERS, (now_ns, number))
        return counts, before

    def close(self) -> None:
        self._connections.close()


def _text(cycle: Cycle) -> str:
    return msgspec.json.encode(cycle).decode()


def _enough(candidates: list[Doomed], entries: int, payload_bytes: int) -> list[Doomed]:
    """As many of the first as it takes to be rid of so many entries and bytes."""
    taken: list[Doomed] = []
    for entry in candidates:
        if entries <= 0 and payload_bytes <= 0:
            break
        taken.append(entry)
        entries -= 1
        payload_bytes -= entry.payload_bytes
    return taken
