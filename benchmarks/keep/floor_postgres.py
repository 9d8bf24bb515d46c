"""The floor in PostgreSQL: the same rows by plain SQL, a transaction each, over one connection."""

from __future__ import annotations

from typing import Any

import psycopg

from afterglow.keep.backend import Pair
from afterglow.keep.entry import Record
from benchmarks.keep.content import content
from benchmarks.keep.floor import COLUMNS, Payload, Row, row_of

_TYPES = {
    name: kind
    for kind, names in {
        "double precision": "decay_rate anchor peak_strength valence intensity confidence",
        "bigint": "anchor_tick prune_tick created_at last_reinforced reinforcement_count "
        "payload_bytes",
        "boolean": "unresolved consolidation_candidate",
    }.items()
    for name in names.split(" ")
}
_NAMES = ", ".join(COLUMNS)
_SCHEMA = f"""
CREATE TABLE totals (entries bigint NOT NULL, changed bigint NOT NULL);
CREATE TABLE entries (trace_id text COLLATE "C" PRIMARY KEY,
    {", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in COLUMNS)}, payload text NOT NULL);
CREATE TABLE pairs (a text COLLATE "C", b text COLLATE "C", count bigint NOT NULL,
    linked boolean NOT NULL, PRIMARY KEY (a, b));
INSERT INTO totals VALUES (0, 0);
"""
_UPSERT = f"""
INSERT INTO entries (trace_id, {_NAMES}, payload)
VALUES ({", ".join(["%s"] * (len(COLUMNS) + 2))})
ON CONFLICT (trace_id) DO UPDATE SET {", ".join(f"{c} = excluded.{c}" for c in COLUMNS)},
    payload = excluded.payload
"""
_PAIR = """
INSERT INTO pairs VALUES (%s, %s, 1, false)
ON CONFLICT (a, b) DO UPDATE SET count = pairs.count + 1
"""
_TOTALS = "UPDATE totals SET entries = entries + %s, changed = changed + 1"


class PostgresFloor:
    """A database of plain tables; what floor.Floor is for SQLite."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def build(self, size: int) -> None:
        run = self._connection
        run.execute(_SCHEMA.encode())
        rows = f"COPY entries (trace_id, {_NAMES}, payload) FROM STDIN".encode()
        for portion in content(size):
            records = [item for item in portion if isinstance(item, Record)]
            pairs = [item for item in portion if isinstance(item, Pair)]
            with run.transaction(), run.cursor() as cursor:
                if records:
                    with cursor.copy(rows) as copy:
                        for record in records:
                            copy.write_row((*row_of(record), record.payload))
                cursor.executemany(
                    "INSERT INTO pairs VALUES (%s, %s, 3, true) ON CONFLICT DO NOTHING",
                    [(pair.a, pair.b) for pair in pairs],
                )

    def upsert(self, rows: list[Row], payloads: list[Payload]) -> None:
        whole: list[tuple[Any, ...]] = [
            (*row, payload) for row, (payload, _) in zip(rows, payloads, strict=True)
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_UPSERT.encode(), whole)
            cursor.execute(_TOTALS, (0,))

    def upsert_pair(self, a: str, b: str) -> None:
        with self._connection.transaction():
            self._connection.execute(_PAIR, (a, b))
            self._connection.execute(_TOTALS, (0,))

    def tick(self) -> None:
        self._connection.execute(_TOTALS, (0,))

    def delete(self, trace_id: str) -> None:
        run = self._connection
        with run.transaction():
            run.execute("DELETE FROM pairs WHERE a = %s OR b = %s", (trace_id, trace_id))
            run.execute("DELETE FROM entries WHERE trace_id = %s", (trace_id,))
            run.execute(_TOTALS, (-1,))

    def close(self) -> None:
        self._connection.close()
