"""Transactions of one server: read, or write under a partition's lock; through a restart.

Writers of one partition take turns: each first locks the partition's row, as SQLite has one
writer for a file. So links, quota, totals and ticks see no half of another's change, and nobody
can wait in a circle. Writers of different partitions do not meet; readers never wait.

When the connection is lost, a transaction whose COMMIT was not sent did not happen, and is tried
again. Of one whose COMMIT was sent, the database is asked whether its version is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import psycopg

from afterglow.errors import StoreError
from afterglow.keep.backend import Totals
from afterglow.keep.entry import Moment
from afterglow.keep.postgres import sql
from afterglow.store.postgres.connections import Connection, Connections
from afterglow.store.postgres.failures import explained, is_lost
from afterglow.store.postgres.text import kept

__all__ = ["Locked", "Transactions", "Watcher", "totals_of"]

T = TypeVar("T")

#: The server asks for another try of these: serialisation failure, deadlock.
_TRY_AGAIN = ("40001", "40P01")
_MOST_TRIES = 5
_PORTION = 2_000


class Watcher(Protocol):
    """Whoever keeps copies of entries learns of each change before it can be seen."""

    def changing(self, partition_id: int, version: int, epoch: int, ids: Sequence[str]) -> bool:
        """These entries change with `version`. False: could not note it, so that the whole
        partition's `epoch` has to change."""
        ...

    def changed(self, partition_id: int, version: int, epoch: int, moment: Moment) -> None:
        """The transaction of `version` is there."""
        ...


class Locked:
    """A partition whose row is locked; what is set here is kept with the transaction."""

    def __init__(self, connection: Connection, row: Sequence[Any]) -> None:
        self.connection = connection
        #: Says in afterglow.outcome whose version it is.
        self.token = int.from_bytes(os.urandom(8)) >> 1
        (self.partition_id, self.version, self.epoch, self.entries, self.payload_bytes,
         self.fading, self.ingested, self.changed_at, self.tick, self.ticked_at,
         self.advanced_at, self.tiered_at, self.last_cycle) = row  # fmt: skip
        self._before = self._values()
        self.rows = 0
        #: Entries of which something changed, their links and children included.
        self.affected: set[str] = set()
        #: So much changed that every copy of the partition is off.
        self.everything = False

    @property
    def moment(self) -> Moment:
        return Moment(self.tick, self.ticked_at, self.advanced_at)

    def totals(self) -> Totals:
        return totals_of(self._values())

    def execute(self, query: Any, **parameters: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute with `partition_id` among the parameters."""
        parameters["partition_id"] = self.partition_id
        return self.connection.execute(query, parameters)

    def changed(self) -> bool:
        return bool(self.rows or self.affected or self.everything or self._values() != self._before)

    def keep(self, watcher: Watcher | None) -> None:
        """Write the row, having told the watcher."""
        self.version += 1
        told = not self.everything and (
            watcher is None
            or watcher.changing(self.partition_id, self.version, self.epoch, sorted(self.affected))
        )
        if not told:
            self.epoch += 1
        names = ("partition_id", "version", "epoch", *_TOTALS)
        values = dict(zip(names, self._values(), strict=True))
        with self.connection.pipeline():
            # What only moves the tick may be done again without harm: one row, then.
            if self.rows:
                self.execute(sql.NOTE_OUTCOME, version=self.version, token=self.token)
                self.execute(sql.FORGET_OUTCOME, version=self.version - sql.KEPT_OUTCOMES)
            self.connection.execute(sql.KEEP_PARTITION, values)
        self.rows += 1

    def _values(self) -> list[Any]:
        return [
            self.partition_id, self.version, self.epoch, self.entries, self.payload_bytes,
            self.fading, self.ingested, self.changed_at, self.tick, self.ticked_at,
            self.advanced_at, self.tiered_at, self.last_cycle,
        ]  # fmt: skip


_TOTALS = (
    "entries", "payload_bytes", "fading", "ingested", "changed_at", "tick", "ticked_at",
    "advanced_at", "tiered_at", "last_cycle",
)  # fmt: skip


def totals_of(row: Sequence[Any]) -> Totals:
    """Totals of a row of sql.PARTITION."""
    return Totals(
        entries=row[3],
        payload_bytes=row[4],
        fading=row[5],
        ingested=row[6],
        changed_at=row[7],
        moment=Moment(row[8], row[9], row[10]),
        tiered_at=row[11],
        last_cycle=row[12],
    )


class Transactions:
    """Runs the work of a back end on lent connections; raises StoreError."""

    def __init__(self, connections: Connections, watcher: Watcher | None = None) -> None:
        self.connections = connections
        self.watcher = watcher
        self.place = connections.place

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads; again if the connection was lost."""
        waited_s, attempt = 0.0, 0
        with explained(self.place):
            while True:
                with self.connections.lent() as connection:
                    try:
                        return work(connection)
                    except psycopg.Error as error:
                        if not is_lost(error, connection) or waited_s >= self._patience_s:
                            raise
                self.connections.forget_idle()
                waited_s += self.connections.pause(attempt)
                attempt += 1

    def stream(
        self, queries: Sequence[tuple[Any, dict[str, Any]]], name: str
    ) -> Iterator[tuple[int, Sequence[Any], list[tuple[Any, ...]]]]:
        """The rows of queries on one partition, from one snapshot, in portions: the place of
        the query, the partition's row (as sql.PARTITION has it) and rows. Queries get
        `partition_id`."""
        with explained(self.place), self.connections.lent() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                # Whoever reads this may take his time: it holds nobody up.
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                row = connection.execute(sql.PARTITION, {"name": kept(name)}).fetchone()
                for place, (query, parameters) in enumerate(queries if row else ()):
                    assert row is not None
                    with connection.cursor("portions", binary=True) as cursor:
                        cursor.execute(query, {**parameters, "partition_id": row[0]})
                        while rows := cursor.fetchmany(_PORTION):
                            yield place, row, rows
            finally:
                # A lost connection ends it as well.
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")

    def write(
        self, name: str, now_ns: int, work: Callable[[Locked], T], *, once: bool = False
    ) -> T:
        """Do `work` in a transaction on a partition, which is locked, and made if need be.

        `once`: the work cannot be done twice, so it is not tried again.
        """
        waited_s, attempt = 0.0, 0
        with explained(self.place):
            while True:
                with self.connections.lent() as connection:
                    try:
                        return self._transaction(connection, name, now_ns, work)
                    except psycopg.Error as error:
                        lost = is_lost(error, connection) and waited_s < self._patience_s
                        again = error.sqlstate in _TRY_AGAIN and attempt < _MOST_TRIES
                        if once or not (lost or again):
                            raise
                self.connections.forget_idle()
                waited_s += self.connections.pause(attempt)
                attempt += 1

    def _transaction(
        self, connection: Connection, name: str, now_ns: int, work: Callable[[Locked], T]
    ) -> T:
        try:
            locked = _begin(connection, name, now_ns)
            result = work(locked)
            if locked.changed():
                locked.keep(self.watcher)
        except BaseException:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not is_lost(error, connection):
                raise
            if not self._settle(locked, error):
                raise
        if self.watcher is not None and locked.rows:
            self.watcher.changed(locked.partition_id, locked.version, locked.epoch, locked.moment)
        return result

    def _settle(self, locked: Locked, error: psycopg.Error) -> bool:
        """Whether a transaction is there whose COMMIT got no answer. StoreError if nobody can
        say."""
        self.connections.forget_idle()
        waited_s, attempt = 0.0, 0
        while waited_s <= self._patience_s:
            # While the server is away, each of these is a try to reach it.
            with suppress(psycopg.Error, StoreError), self.connections.lent() as connection:
                happened = _happened(connection, locked)
                if happened is None:
                    break
                return happened
            waited_s += self.connections.pause(attempt)
            attempt += 1
        raise StoreError(
            f"PostgreSQL at {self.place} went away during a commit, and did not come back in time "
            "to tell whether it is there; flush again: what was written is written once more"
        ) from error

    @property
    def _patience_s(self) -> float:
        return self.connections.patience_s


def _happened(connection: Connection, locked: Locked) -> bool | None:
    """Whether its version was made by it; None if that is too long ago to say."""
    parameters = {"partition_id": locked.partition_id, "version": locked.version}
    with connection.transaction():
        connection.execute(sql.LOCK_BY_ID, parameters)
        row = connection.execute(sql.OUTCOME, parameters).fetchone()
    if row is None or row[0] < locked.version:
        return False
    if row[1] is None:
        # Another's tick has this version, or ours had: whatever only moves the tick, does so
        # again if it has to. Long ago is another matter.
        return False if row[0] < locked.version + sql.KEPT_OUTCOMES else None
    return bool(row[1] == locked.token)


def _begin(connection: Connection, name: str, now_ns: int) -> Locked:
    """Begin a transaction that has a partition's lock; makes the partition if need be."""
    parameters = {"name": kept(name), "now_ns": now_ns}
    with connection.pipeline():
        connection.execute("BEGIN")
        cursor = connection.execute(sql.LOCK, parameters)
    row = cursor.fetchone()
    if row is None:
        connection.execute(sql.BEGIN_PARTITION, parameters)
        row = connection.execute(sql.LOCK, parameters).fetchone()
    if row is None:
        raise StoreError("the partition's row went away while it was made; try again")
    return Locked(connection, row)
