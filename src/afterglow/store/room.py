"""How much room the file takes, and giving it back. Freed pages are used again, so a file that
is kept within its quota while it grows never has to shrink; what this has is for the rest.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from afterglow.store.summaries import TRACE_BYTES

__all__ = ["Room", "checkpoint", "compact", "measured", "worth_compacting"]

_SPARSE: Final = 0.6


class Room(msgspec.Struct, frozen=True):
    """Bytes of the named file, and how many of them hold anything; SQLite's log is not in it."""

    file_bytes: int
    used_bytes: int


def measured(connection: sqlite3.Connection) -> Room:
    """The room of the file as of its last transaction."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return Room(pages * size, (pages - free) * size)


def worth_compacting(connection: sqlite3.Connection, used_bytes: int) -> bool:
    """Whether the pages in use are so empty that writing the file anew pays.

    Forgetting some of the spans of a page leaves it half empty; SQLite joins such pages only when
    they are emptier than a third. Never before as many spans were forgotten since the last time as
    are there, so that the work is shared by many.
    """
    since, forgotten = connection.execute(
        "SELECT coalesce(sum(CASE key WHEN 'forgotten_spans' THEN value ELSE -value END), 0),"
        " coalesce(sum(CASE key WHEN 'forgotten_spans' THEN value END), 0)"
        " FROM keeping WHERE key IN ('forgotten_spans', 'density_seen_at')"
    ).fetchone()
    (ever,) = connection.execute("SELECT coalesce(sum(spans), 0) FROM processes").fetchone()
    if since <= ever - forgotten:
        return False
    _note_density(connection)
    size, traces = connection.execute("SELECT sum(bytes), count(*) FROM traces").fetchone()
    return bool((size or 0) + traces * TRACE_BYTES < used_bytes * _SPARSE)


def _note_density(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO keeping SELECT 'density_seen_at',"
        " coalesce((SELECT value FROM keeping WHERE key = 'forgotten_spans'), 0)"
    )


def compact(connection: sqlite3.Connection) -> bool:
    """Write the file anew without its free pages; False where that cannot be done now.

    Takes as much room again while it goes on, in SQLite's log; readers go on beside it.
    """
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError:
        return False  # somebody else writes, or the disk has no room: there is another time
    _note_density(connection)
    return True


def checkpoint(connection: sqlite3.Connection, path: Path, most_bytes: int) -> None:
    """Take SQLite's log into the file if it is larger than this; not while others hold it."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout=0")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return
    finally:
        connection.execute(f"PRAGMA busy_timeout={patience}")
