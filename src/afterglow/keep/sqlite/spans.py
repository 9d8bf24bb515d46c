"""What retention asks of the spans in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from afterglow.keep.keeper import Stand
from afterglow.ledger import ForgetReason
from afterglow.model.kept import History, TraceSummary
from afterglow.store.failures import explained
from afterglow.store.forget import Forgotten, forget_traces
from afterglow.store.room import measured
from afterglow.store.schema import transaction
from afterglow.store.summaries import (
    Looked,
    changed_traces,
    histories,
    mark_changed,
    mark_entered,
    note_going_on,
    pinned_traces,
    set_pinned,
    summarise,
)

__all__ = ["FileSpans"]

_PORTION: Final = 24_576

_FADED: Final = """
SELECT count(*) FROM partitions AS p JOIN entries AS e ON e.partition = p.id
WHERE p.name = ? AND e.prune_tick <= ?
"""
_KINDS: Final = (
    "SELECT kind, count(*), sum(spans), sum(errors), sum(bytes) FROM traces GROUP BY kind"
)
_ENTRIES: Final = """
SELECT e.trace_id, e.prune_tick, t.kind, t.why, t.service, t.name, t.start_ns, t.duration_ns,
       t.spans
FROM partitions AS p JOIN entries AS e ON e.partition = p.id
JOIN traces AS t ON t.trace_id = e.trace_id
WHERE p.name = ?
"""
#: In the order of a quota, and of the index.
_SOONEST: Final = f"""{_ENTRIES} AND e.prune_tick IS NOT NULL
ORDER BY e.prune_tick, e.last_reinforced, e.trace_id LIMIT ?"""
_LATEST: Final = f"""{_ENTRIES} AND e.prune_tick IS NOT NULL ORDER BY e.prune_tick DESC LIMIT ?"""
_PINNED: Final = f"""{_ENTRIES} AND t.pinned = 1 AND t.trace_id IN
(SELECT trace_id FROM traces WHERE pinned = 1) ORDER BY t.start_ns DESC LIMIT ?"""


class FileSpans:
    """A keeper.KeptSpans on a connection of its owner's."""

    def __init__(self, path: Path, connection: sqlite3.Connection, partition: str) -> None:
        self.path = path
        self.place = str(path)
        self._connection = connection
        self._partition = partition

    def look(self, most_spans: int) -> Looked:
        with explained(self.path), transaction(self._connection) as connection:
            looked = summarise(connection, most_spans)
            note_going_on(connection)
        return looked

    def changed(self, most: int) -> list[TraceSummary]:
        with explained(self.path):
            return changed_traces(self._connection, most)

    def histories(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], History]:
        with explained(self.path):
            return histories(self._connection, keys)

    def mark_entered(self, traces: Sequence[tuple[TraceSummary, str, str]]) -> None:
        with explained(self.path), transaction(self._connection) as connection:
            mark_entered(connection, traces)

    def mark_changed(self, ids: Sequence[str]) -> None:
        with explained(self.path), transaction(self._connection) as connection:
            mark_changed(connection, ids)

    def set_pinned(self, trace_id: str, pinned: bool) -> bool:
        with explained(self.path), transaction(self._connection) as connection:
            return set_pinned(connection, trace_id, pinned)

    def pinned(self) -> list[str]:
        with explained(self.path):
            return pinned_traces(self._connection)

    def count(self) -> int:
        with explained(self.path):
            (traces,) = self._connection.execute("SELECT count(*) FROM traces").fetchone()
        return int(traces)

    def entered(self) -> Iterator[list[str]]:
        with explained(self.path):
            rows = self._connection.execute("SELECT trace_id FROM traces WHERE changed = 0")
            while portion := [trace for (trace,) in rows.fetchmany(_PORTION)]:
                yield portion

    def forget(self, connection: Any, ids: Sequence[str], why: ForgetReason) -> Forgotten:
        return forget_traces(connection, ids, why)

    def stand(self, tick: int, limit: int) -> Stand:
        connection, partition = self._connection, self._partition
        with explained(self.path):
            pinned = connection.execute(_PINNED, (partition, limit)).fetchall()
            latest = connection.execute(_LATEST, (partition, limit - len(pinned))).fetchall()
            (faded,) = connection.execute(_FADED, (partition, tick)).fetchone()
            return Stand(
                room=measured(connection),
                numbers=dict(connection.execute("SELECT key, value FROM keeping")),
                kinds=connection.execute(_KINDS).fetchall(),
                pinned=pinned,
                latest=latest,
                soonest=connection.execute(_SOONEST, (partition, limit)).fetchall(),
                faded=faded,
            )

    def neighbours(self, trace_id: str) -> tuple[str | None, str | None]:
        with explained(self.path):
            before, after = self._connection.execute(
                "SELECT (SELECT max(trace_id) FROM traces WHERE trace_id < :id),"
                " (SELECT min(trace_id) FROM traces WHERE trace_id > :id)",
                {"id": trace_id},
            ).fetchone()
        return before, after

    def beginning_with(self, digits: str, most: int) -> list[str]:
        with explained(self.path):
            rows = self._connection.execute(
                "SELECT trace_id FROM traces WHERE trace_id >= ? AND trace_id < ? LIMIT ?",
                (digits, digits + "g", most),
            )
            return [trace for (trace,) in rows]
