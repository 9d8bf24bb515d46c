"""Recall: the entries that fit some words, the best first, and stronger for having been used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from afterglow.errors import NotFoundError
from afterglow.keep.entry import Entry

if TYPE_CHECKING:
    from afterglow.keep.store import TraceStore

__all__ = ["candidates", "entry_text", "matching", "recall", "resolved"]

#: Beginnings of ids shorter than this say too little.
_SHORTEST_BEGINNING = 4


def entry_text(entry: Entry) -> str:
    """The payload as text: itself if it is one, else its JSON; nothing of bytes."""
    encoded = entry.encoded_payload
    if isinstance(encoded, bytes):
        return ""
    return str(json.loads(encoded)) if encoded.startswith('"') else encoded


def matching(entry: Entry, text: str) -> bool:
    """Whether each word of `text` is somewhere in the payload or is in a tag, in any case."""
    words = text.casefold().split()
    if not words:
        return True
    searched = "\n".join((entry_text(entry), *entry.tags)).casefold()
    return all(word in searched for word in words)


def recall(
    store: TraceStore,
    text: str = "",
    *,
    kind: str | None = None,
    tag: str | None = None,
    limit: int = 10,
    min_strength: float = 0.0,
    peek: bool = False,
) -> list[Entry]:
    """Entries that fit all that is given, best retrieval score first, ties by strength.

    Those that are returned have been reinforced (unless `peek`, or their kind never fades), and
    are as they are after that; `score` is the one they were chosen by.
    """
    found = [e for e in candidates(store, kind, tag, min_strength) if matching(e, text)]
    scored = store.ranked([entry.trace_id for entry in found])
    scored.sort(key=lambda e: (-(e.score or 0.0), -e.strength, e.trace_id))
    chosen = scored[: max(limit, 0)]
    if peek:
        return chosen
    return [_used(store, entry) for entry in chosen]


def candidates(
    store: TraceStore,
    kind: str | None = None,
    tag: str | None = None,
    min_strength: float = 0.0,
    limit: int | None = None,
) -> list[Entry]:
    """Entries of a kind, with a tag, or both, or all; the strongest first."""
    if kind is None:
        return (
            store.all(min_strength, limit)
            if tag is None
            else store.by_tag(tag, min_strength, limit)
        )
    if tag is None:
        return store.by_kind(kind, min_strength, limit)
    return [e for e in store.by_kind(kind, min_strength) if tag in e.tags][:limit]


def _used(store: TraceStore, entry: Entry) -> Entry:
    if entry.decay_rate > 0 and store.reinforce(entry.trace_id):
        after = store.get(entry.trace_id)
        if after is not None:
            return msgspec.structs.replace(after, score=entry.score)
    return entry


def resolved(store: TraceStore, beginning: str) -> Entry:
    """The entry of this id, or the only one whose id begins so (4 characters or more).

    Raises NotFoundError.
    """
    entry = store.get(beginning)
    if entry is not None:
        return entry
    found = (
        [e for e in store.all() if e.trace_id.startswith(beginning)]
        if len(beginning) >= _SHORTEST_BEGINNING
        else []
    )
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(e.trace_id for e in found[:3])
        raise NotFoundError(
            f"{len(found)} entries begin with {beginning!r}: give more of the id ({some} ...)"
        )
    raise NotFoundError(
        f"there is no entry {beginning!r}: it may have faded; `afterglow memory list` shows "
        "what there is"
    )
