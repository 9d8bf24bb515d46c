"""Removing entries with all that hangs on them, and the joining of pairs: under the lock."""

from __future__ import annotations

from collections.abc import Sequence

from afterglow.keep.backend import OnRemoved
from afterglow.keep.postgres import sql
from afterglow.keep.postgres.transactions import Locked
from afterglow.store.postgres.text import kept, read

__all__ = ["remove"]


def remove(locked: Locked, ids: Sequence[str], on_removed: OnRemoved | None) -> list[str]:
    """Remove entries, their tags and links; their children lose their parent.

    Gives back the ids of those that were there; tells `on_removed` of them.
    """
    if not ids:
        return []
    found = locked.execute(sql.REMOVE, ids=[kept(i) for i in ids]).fetchall()
    if not found:
        return []
    keys = [row[0] for row in found]
    removed = [read(key) for key in keys]
    for _, size, fades, parent_id in found:
        locked.entries -= 1
        locked.payload_bytes -= size
        locked.fading -= fades
        if parent_id is not None:
            locked.affected.add(read(parent_id))
    with locked.connection.pipeline():
        tags = locked.execute(sql.REMOVE_TAGS, ids=keys)
        pairs = locked.execute(sql.REMOVE_PAIRS, ids=keys)
        orphans = locked.execute(sql.ORPHAN, ids=keys)
    neighbours = pairs.fetchall()
    children = orphans.fetchall()
    locked.affected.update(removed)
    locked.affected.update(read(b) for b, linked, _ in neighbours if linked)
    locked.affected.update(read(child) for (child,) in children)
    mirrored = neighbours[0][2] if neighbours else 0
    locked.rows += len(found) + tags.rowcount + len(neighbours) + mirrored + len(children)
    if on_removed is not None:
        on_removed(locked.connection, removed)
    return removed
