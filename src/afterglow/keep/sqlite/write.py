"""What one transaction of a flush writes: whole records, reinforcements, links."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from afterglow.keep.backend import LINK_AT, MOST_LINKS, Coactivation, Pair, Put
from afterglow.keep.entry import Record
from afterglow.keep.sqlite import sql
from afterglow.keep.sqlite.remove import Deltas, Doomed, delete_tags, detach
from afterglow.keep.sqlite.rows import entry_values

__all__ = ["insert", "link", "list_of", "put", "put_pairs", "touch"]


def list_of(ids: Sequence[str]) -> str:
    """Ids as the JSON array that the statements take."""
    return msgspec.json.encode(ids).decode()


def put(
    connection: sqlite3.Connection, partition: int, puts: Sequence[Put], deltas: Deltas
) -> None:
    """Insert or replace whole records; no id is there twice."""
    if not puts:
        return
    fresh = [put.record.trace_id for put in puts if put.fresh]
    if fresh:  # first, for children of theirs that are put here have their parent anew
        before = connection.execute(sql.DOOMED_BY_ID, (list_of(fresh), partition))
        detach(connection, partition, [Doomed(*row) for row in before], deltas)
    ids = list_of([put.record.trace_id for put in puts])
    there = {
        row[1]: (Doomed(*row[:5]), row[5:])
        for row in connection.execute(sql.EXISTING, (ids, partition))
    }
    _replace(connection, partition, [p for p in puts if p.record.trace_id in there], there, deltas)
    new = [p.record for p in puts if p.record.trace_id not in there]
    insert(connection, partition, new, deltas)


def _replace(
    connection: sqlite3.Connection,
    partition: int,
    puts: Sequence[Put],
    there: dict[str, tuple[Doomed, tuple[Any, ...]]],
    deltas: Deltas,
) -> None:
    if not puts:
        return
    whole, entries, payloads = [], [], []
    retagged: list[tuple[Doomed, Record]] = []
    for item in puts:
        record = item.record
        before, indexed = there[record.trace_id]
        values = entry_values(record, partition)
        if tuple(values[i] for i in sql.INDEXED) == indexed:
            entries.append((*[values[i] for i in sql.NOT_INDEXED], before.id))
        else:
            whole.append((*values[2:], before.id))
        size = record.payload_bytes
        payloads.append((size, record.payload, record.embedding, before.id))
        if before.tags != values[-1]:
            retagged.append((before, record))
        deltas.add(-1, before.payload_bytes, before.decay_rate)
        deltas.add(1, size, record.decay_rate)
    if entries:
        deltas.rows += connection.executemany(sql.UPDATE_NOT_INDEXED, entries).rowcount
    if whole:
        deltas.rows += connection.executemany(sql.UPDATE, whole).rowcount
    deltas.rows += connection.executemany(sql.UPDATE_PAYLOAD, payloads).rowcount
    delete_tags(connection, partition, [before for before, _ in retagged], deltas)
    _insert_tags(connection, partition, [(b.id, record) for b, record in retagged], deltas)


def insert(
    connection: sqlite3.Connection, partition: int, records: Sequence[Record], deltas: Deltas
) -> None:
    """Insert records whose ids are not there."""
    if not records:
        return
    (first,) = connection.execute(sql.NEXT_ID).fetchone()
    entries, payloads = [], []
    for number, record in enumerate(records, first):
        values = entry_values(record, partition)
        entries.append((number, *values))
        size = record.payload_bytes
        payloads.append((number, size, record.payload, record.embedding))
        deltas.add(1, size, record.decay_rate)
    deltas.rows += connection.executemany(sql.INSERT, entries).rowcount
    deltas.rows += connection.executemany(sql.INSERT_PAYLOAD, payloads).rowcount
    _insert_tags(connection, partition, list(enumerate(records, first)), deltas)


def _insert_tags(
    connection: sqlite3.Connection,
    partition: int,
    entries: Sequence[tuple[int, Record]],
    deltas: Deltas,
) -> None:
    rows = [(partition, tag, number) for number, record in entries for tag in record.tags]
    if rows:
        deltas.rows += connection.executemany(sql.INSERT_TAG, rows).rowcount


def touch(
    connection: sqlite3.Connection, partition: int, records: Sequence[Record], deltas: Deltas
) -> int:
    """Write down reinforcements; how many entries were there."""
    if not records:
        return 0
    rows = [
        (
            record.anchor, record.anchor_tick, record.prune_tick, record.last_reinforced,
            record.reinforcement_count, record.peak_strength, partition, record.trace_id,
        )
        for record in records
    ]  # fmt: skip
    there = connection.executemany(sql.TOUCH, rows).rowcount
    deltas.rows += there
    return there


def link(
    connection: sqlite3.Connection, partition: int, pairs: Sequence[Coactivation], deltas: Deltas
) -> int:
    """Count co-activations, and link where the rule allows; how many pairs were there."""
    if not pairs:
        return 0
    ids = list_of(sorted({trace_id for pair in pairs for trace_id in (pair.a, pair.b)}))
    numbers: dict[str, int] = dict(connection.execute(sql.IDS, (ids, partition)).fetchall())
    there = 0
    for pair in pairs:
        a, b = numbers.get(pair.a), numbers.get(pair.b)
        if a is None or b is None:
            continue
        there += 1
        row = connection.execute(sql.PAIR, (a, b)).fetchone()
        count, linked = (row[0] + pair.times, row[1]) if row else (pair.times, 0)
        if not linked:
            may = count >= LINK_AT if pair.link is None else pair.link
            linked = int(may and _has_room(connection, a) and _has_room(connection, b))
        deltas.rows += connection.execute(sql.PUT_PAIR, (a, b, count, linked)).rowcount
    return there


def _has_room(connection: sqlite3.Connection, number: int) -> bool:
    (links,) = connection.execute(sql.DEGREE, (number, number)).fetchone()
    return bool(links < MOST_LINKS)


def put_pairs(connection: sqlite3.Connection, partition: int, pairs: Sequence[Pair]) -> None:
    """Write pairs down as they are, as a restore does; those without an entry are left out."""
    ids = list_of(sorted({trace_id for pair in pairs for trace_id in (pair.a, pair.b)}))
    numbers: dict[str, int] = dict(connection.execute(sql.IDS, (ids, partition)).fetchall())
    rows: list[tuple[Any, ...]] = [
        (numbers[pair.a], numbers[pair.b], pair.count, pair.linked)
        for pair in pairs
        if pair.a in numbers and pair.b in numbers
    ]
    connection.executemany(sql.PUT_PAIR, rows)
