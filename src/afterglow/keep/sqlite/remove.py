"""Removing entries, whoever asks: with all that hangs on them, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from afterglow.keep.backend import OnRemoved
from afterglow.keep.sqlite import sql
from afterglow.keep.sqlite.rows import tags_of

__all__ = ["Deltas", "Doomed", "delete_tags", "detach", "remove"]


class Doomed(NamedTuple):
    """What a removal must know of an entry."""

    id: int
    trace_id: str
    payload_bytes: int
    decay_rate: float
    tags: str


class Deltas:
    """How the totals of a partition change in a transaction, and the rows it has written."""

    def __init__(self) -> None:
        self.entries = 0
        self.payload_bytes = 0
        self.fading = 0
        self.ingested = 0
        self.rows = 0

    def add(self, sign: int, payload_bytes: int, decay_rate: float) -> None:
        """An entry comes (1) or goes (-1)."""
        self.entries += sign
        self.payload_bytes += sign * payload_bytes
        self.fading += sign * (decay_rate > 0)


def remove(
    connection: sqlite3.Connection,
    partition: int,
    doomed: Sequence[Doomed],
    deltas: Deltas,
    on_removed: OnRemoved | None,
) -> None:
    """Remove these entries; their neighbours lose the links, their children the parent."""
    if not doomed:
        return
    if on_removed is not None:
        on_removed(connection, [entry.trace_id for entry in doomed])
    detach(connection, partition, doomed, deltas)
    ids = [(entry.id,) for entry in doomed]
    for statement in (sql.DELETE_PAYLOAD, sql.DELETE):
        deltas.rows += connection.executemany(statement, ids).rowcount
    delete_tags(connection, partition, doomed, deltas)
    for entry in doomed:
        deltas.add(-1, entry.payload_bytes, entry.decay_rate)


def detach(
    connection: sqlite3.Connection, partition: int, doomed: Sequence[Doomed], deltas: Deltas
) -> None:
    """Cut them off from links and children."""
    ids = [(entry.id,) for entry in doomed]
    for statement in (sql.DELETE_PAIRS_OF_A, sql.DELETE_PAIRS_OF_B):
        deltas.rows += connection.executemany(statement, ids).rowcount
    parents = [(partition, entry.trace_id) for entry in doomed]
    deltas.rows += connection.executemany(sql.ORPHAN, parents).rowcount


def delete_tags(
    connection: sqlite3.Connection, partition: int, entries: Sequence[Doomed], deltas: Deltas
) -> None:
    """Take these entries out of the index of tags."""
    rows = [(partition, tag, entry.id) for entry in entries for tag in tags_of(entry.tags)]
    if rows:
        deltas.rows += connection.executemany(sql.DELETE_TAG, rows).rowcount
