"""The seam's SQLite side: reading and the writes of a flush. Removal at large is in fade.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from afterglow.keep.backend import (
    Bond,
    Candidate,
    Changes,
    Found,
    OnRemoved,
    Pair,
    Selection,
    Totals,
    Written,
)
from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.sqlite import sql
from afterglow.keep.sqlite.connections import Connections
from afterglow.keep.sqlite.fade import Fading
from afterglow.keep.sqlite.remove import Deltas, Doomed, remove
from afterglow.keep.sqlite.rows import record_of
from afterglow.keep.sqlite.write import insert, link, list_of, put, put_pairs, touch

__all__ = ["SqliteBackend"]

_PORTION: Final = 512


class SqliteBackend(Fading):
    """One partition of a SQLite file, which is made or brought up to date if need be.

    `on_removed` is called inside each transaction that removes entries, with its connection
    (sqlite3) and their ids. `busy_ms`: how long to wait for other writers. A file that cannot
    be written can still be read; `read_only` does not try to write it. Raises StoreError.
    """

    def __init__(
        self,
        path: Path,
        partition: str,
        *,
        on_removed: OnRemoved | None = None,
        read_only: bool = False,
        busy_ms: int = 30_000,
    ) -> None:
        super().__init__(
            Connections(path, read_only=read_only, busy_ms=busy_ms), partition, on_removed
        )

    # --- reading --------------------------------------------------------------------------

    def read(self, ids: Sequence[str], *, links: bool) -> Found:
        wanted = list_of(ids)
        with self._connections.reading() as connection:
            number, moment = self._moment(connection)
            if number is None:
                return Found(moment, {}, {})
            rows = connection.execute(sql.RECORDS, (wanted, number)).fetchall()
            records = {row[0]: record_of(row) for row in rows}
            found = _links(connection, number, wanted) if links else {}
        return Found(moment, records, found)

    def known(self, ids: Sequence[str]) -> set[str]:
        with self._connections.reading() as connection:
            number, _ = self._moment(connection)
            rows = connection.execute(sql.KNOWN, (list_of(ids), number)).fetchall()
        return {trace_id for (trace_id,) in rows}

    def candidates(
        self, selection: Selection, at_least: float = 0.0, limit: int | None = None
    ) -> Iterator[tuple[Moment, list[Candidate]]]:
        with self._connections.reading() as connection:
            number, moment = self._moment(connection)
            if limit is None or not self._connections.has_mathematics:
                values = () if selection.by == "all" else (selection.value,)
                cursor = connection.execute(
                    sql.CANDIDATES[selection.by], (number, *values, at_least)
                )
            else:
                named = {
                    "partition": number,
                    "value": selection.value,
                    "least": at_least,
                    "tick": moment.tick,
                    "limit": limit,
                }
                cursor = connection.execute(sql.STRONGEST[selection.by], named)
            while rows := cursor.fetchmany(_PORTION):
                yield moment, [Candidate(*row) for row in rows]

    def bond(self, a: str, b: str) -> Bond:
        with self._connections.reading() as connection:
            number, _ = self._moment(connection)
            ids: dict[str, int] = dict(
                connection.execute(sql.IDS, (list_of([a, b]), number)).fetchall()
            )
            linked = {
                trace_id: tuple(
                    other for (other,) in connection.execute(sql.LINKED, (entry, entry))
                )
                for trace_id, entry in ids.items()
            }
            first, second = sorted((a, b))
            row = connection.execute(sql.PAIR, (ids.get(first), ids.get(second))).fetchone()
        count, is_linked = row or (0, 0)
        return Bond(count, bool(is_linked), linked.get(a), linked.get(b))

    def pairs(self, trace_id: str) -> list[Pair]:
        with self._connections.reading() as connection:
            number, _ = self._moment(connection)
            ids = dict(connection.execute(sql.IDS, (list_of([trace_id]), number)).fetchall())
            entry = ids.get(trace_id)
            rows = connection.execute(sql.PAIRS_OF, (entry, entry)).fetchall()
        return [Pair(trace_id, other, count, bool(linked)) for other, count, linked in rows]

    def totals(self) -> Totals:
        with self._connections.reading() as connection:
            return self._totals(connection)

    def partitions(self) -> list[str]:
        with self._connections.reading() as connection:
            return [name for (name,) in connection.execute(sql.PARTITIONS)]

    def export(self) -> Iterator[list[Record] | list[Pair]]:
        with self._connections.reading() as connection:
            number, _ = self._moment(connection)
            cursor = connection.execute(sql.EXPORT, (number,))
            while rows := cursor.fetchmany(_PORTION):
                yield [record_of(row) for row in rows]
            cursor = connection.execute(sql.EXPORT_PAIRS, (number,))
            while rows := cursor.fetchmany(_PORTION):
                yield [Pair(a, b, count, bool(linked)) for a, b, count, linked in rows]

    # --- writing --------------------------------------------------------------------------

    def apply(self, changes: Changes, now_ns: int) -> Written:
        deltas = Deltas()
        with self._connections.writing() as connection:
            number = self._own(connection, now_ns)
            doomed = _doomed(connection, number, changes.gone)
            remove(connection, number, doomed, deltas, self._on_removed)
            put(connection, number, changes.puts, deltas)
            touched = touch(connection, number, changes.touched, deltas)
            linked = link(connection, number, changes.links, deltas)
            deltas.ingested = changes.ingested
            moment = self._add(connection, number, deltas, now_ns)
        missing = len(changes.touched) - touched + len(changes.links) - linked
        return Written(
            rows=deltas.rows,
            entries=len(changes.puts) + touched,
            links=linked,
            tombstones=len(changes.gone),
            missing=missing,
            moment=moment,
        )

    def replace(
        self, content: Iterator[list[Record] | list[Pair]], moment: Moment, now_ns: int
    ) -> int:
        deltas = Deltas()
        came = 0
        with self._connections.writing() as connection:
            number = self._own(connection, now_ns)
            while rows := connection.execute(sql.DOOMED["all"], (number, _PORTION)).fetchall():
                doomed = [Doomed(*row) for row in rows]
                remove(connection, number, doomed, deltas, None)
            for portion in content:
                records = [item for item in portion if isinstance(item, Record)]
                insert(connection, number, records, deltas)
                put_pairs(connection, number, [p for p in portion if isinstance(p, Pair)])
                came += len(records)
            self._add(connection, number, deltas, now_ns)
            connection.execute(
                sql.REPLACED,
                (moment.tick, moment.ticked_at, moment.advanced_at, now_ns, number),
            )
        return came


def _links(connection: sqlite3.Connection, partition: int, wanted: str) -> dict[str, Links]:
    """Links and children by id."""
    children: dict[str, list[str]] = {}
    for parent, child in connection.execute(sql.CHILDREN, (wanted, partition)):
        children.setdefault(parent, []).append(child)
    found = {parent: Links((), tuple(ids)) for parent, ids in children.items()}
    for trace_id, entry in connection.execute(sql.IDS, (wanted, partition)).fetchall():
        linked = tuple(other for (other,) in connection.execute(sql.LINKED, (entry, entry)))
        if linked:
            found[trace_id] = Links(linked, tuple(children.get(trace_id, ())))
    return found


def _doomed(connection: sqlite3.Connection, partition: int, ids: Sequence[str]) -> list[Doomed]:
    if not ids:
        return []
    rows: list[Any] = connection.execute(sql.DOOMED_BY_ID, (list_of(ids), partition)).fetchall()
    return [Doomed(*row) for row in rows]
