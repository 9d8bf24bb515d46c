"""The floor: the rows that a store writes, by plain SQL. No rules, no marks, no encoding.

It has the store's columns and its keys, its page size, journal and synchronous mode, but no
other index, and knows nothing of what may have changed elsewhere.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from afterglow.keep.backend import Pair
from afterglow.keep.entry import Record
from benchmarks.keep.content import content

COLUMNS = (
    "kind", "curve", "decay_rate", "anchor", "anchor_tick", "prune_tick", "peak_strength",
    "valence", "intensity", "confidence", "origin", "source_id", "created_at", "last_reinforced",
    "reinforcement_count", "parent_id", "unresolved", "consolidation_candidate", "payload_bytes",
    "tags",
)  # fmt: skip
_SCHEMA = f"""
CREATE TABLE totals (id INTEGER PRIMARY KEY, entries INTEGER NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE entries (id INTEGER PRIMARY KEY, trace_id TEXT NOT NULL UNIQUE, {", ".join(COLUMNS)});
CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload NOT NULL);
CREATE TABLE pairs (a INTEGER, b INTEGER, count INTEGER NOT NULL, linked INTEGER NOT NULL,
    PRIMARY KEY (a, b)) WITHOUT ROWID;
INSERT INTO totals VALUES (1, 0, 0);
"""
_INSERT = f"INSERT INTO entries VALUES (?, ?, {', '.join('?' * len(COLUMNS))})"
_UPSERT = f"""
INSERT INTO entries (trace_id, {", ".join(COLUMNS)}) VALUES (?, {", ".join("?" * len(COLUMNS))})
ON CONFLICT (trace_id) DO UPDATE SET {", ".join(f"{c} = excluded.{c}" for c in COLUMNS)}
"""
_PAYLOAD = """
INSERT INTO payloads SELECT id, ? FROM entries WHERE trace_id = ?
ON CONFLICT (id) DO UPDATE SET payload = excluded.payload
"""
_PAIR = """
INSERT INTO pairs SELECT x.id, y.id, ?, ? FROM entries AS x, entries AS y
WHERE x.trace_id = ? AND y.trace_id = ?
ON CONFLICT (a, b) DO UPDATE SET count = count + 1
"""
_TOTALS = "UPDATE totals SET entries = entries + ?, changed = changed + 1"


Row = tuple[Any, ...]
#: A payload and its trace_id.
Payload = tuple[str | bytes, str]


def row_of(record: Record) -> Row:
    """A row, worked out beforehand: the floor does not pay for that."""
    return (
        record.trace_id, record.kind, record.curve, record.decay_rate, record.anchor,
        record.anchor_tick, record.prune_tick, record.peak_strength, record.valence,
        record.intensity, record.confidence, record.origin, record.source_id, record.created_at,
        record.last_reinforced, record.reinforcement_count, record.parent_id, record.unresolved,
        record.consolidation_candidate, record.payload_bytes, '["bench","group"]',
    )  # fmt: skip


class Floor:
    """A file of plain tables."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=NORMAL",
                       "cache_size=-32768", "wal_autocheckpoint=4096"):  # fmt: skip
            self._connection.execute(f"PRAGMA {pragma}")

    def build(self, size: int) -> None:
        run = self._connection
        run.executescript(_SCHEMA)
        run.execute("BEGIN")
        numbers: dict[str, int] = {}
        for portion in content(size):
            for item in portion:
                if isinstance(item, Record):
                    number = numbers[item.trace_id] = len(numbers)
                    run.execute(_INSERT, (number, *row_of(item)))
                    run.execute("INSERT INTO payloads VALUES (?, ?)", (number, item.payload))
                elif isinstance(item, Pair):
                    pair = (numbers[item.a], numbers[item.b], 3, 1)
                    run.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?)", pair)
        run.execute("COMMIT")

    def upsert(self, rows: list[Row], payloads: list[Payload]) -> None:
        """One transaction of so many entries and their payloads."""
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        run.executemany(_UPSERT, rows)
        run.executemany(_PAYLOAD, payloads)
        run.execute(_TOTALS, (0,))
        run.execute("COMMIT")

    def upsert_pair(self, a: str, b: str) -> None:
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        run.execute(_PAIR, (1, 0, a, b))
        run.execute(_TOTALS, (0,))
        run.execute("COMMIT")

    def tick(self) -> None:
        """The one row that a decay cycle writes."""
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        run.execute(_TOTALS, (0,))
        run.execute("COMMIT")

    def delete(self, trace_id: str) -> None:
        """An entry with its payload and links."""
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        ((number,),) = run.execute("SELECT id FROM entries WHERE trace_id = ?", (trace_id,))
        run.execute("DELETE FROM pairs WHERE a = ?", (number,))
        run.execute("DELETE FROM payloads WHERE id = ?", (number,))
        run.execute("DELETE FROM entries WHERE id = ?", (number,))
        run.execute(_TOTALS, (-1,))
        run.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
