"""What `afterglow keep` does to the store's tables, without the entries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from afterglow.ledger import ForgetReason
from afterglow.model.flat import widen
from afterglow.model.kept import TraceSummary
from afterglow.model.span import trace_id_hex
from afterglow.store.forget import Forgotten, forget_traces
from afterglow.store.schema import initialise
from afterglow.store.summaries import changed_traces, mark_entered, note_going_on, summarise
from tests.store.conftest import SEED


@contextmanager
def writing(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction."""
    connection = initialise(database)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


def look(database: Path, portion: int = 1_000) -> list[TraceSummary]:
    """Take what is new into `traces`; what has changed."""
    with writing(database) as connection:
        while summarise(connection, portion).spans:
            pass
        note_going_on(connection)
        found = changed_traces(connection, 1_000_000)
        mark_entered(connection, ((trace, "normal", "") for trace in found))
    return sorted(found, key=lambda trace: trace.trace_id)


def forget(database: Path, ids: Iterable[str], why: ForgetReason = "faded") -> Forgotten:
    with writing(database) as connection:
        return forget_traces(connection, ids, why)


def hexadecimal(trace: int) -> str:
    """The id that a trace of tests/store has in the file."""
    return trace_id_hex(widen(SEED, trace))
