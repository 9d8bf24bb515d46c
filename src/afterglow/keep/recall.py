"""Recall: the entries that fit some words, the best first, and stronger for having been used."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from afterglow.errors import NotFoundError
from afterglow.keep.decay import score
from afterglow.keep.entry import Entry

if TYPE_CHECKING:
    from afterglow.keep.store import TraceStore

__all__ = ["best", "entry_text", "matching", "recall", "resolved"]

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


class _Match(NamedTuple):
    """As much of an entry as its place among the others needs; `linked` are ids."""

    strength: float
    last_reinforced: int
    intensity: float
    linked: tuple[str, ...]


def best(entries: Iterable[Entry], at_ns: int, limit: int) -> list[tuple[str, float]]:
    """The ids with the best retrieval scores and these; ties by strength, then by id.

    Of each entry only what its place needs is held, so that a generator may bring very many.
    """
    matches = {
        entry.trace_id: _Match(
            entry.strength, entry.last_reinforced, entry.intensity, entry.associated
        )
        for entry in entries
    }

    def placed() -> Iterator[tuple[float, float, str]]:
        for trace_id, match in matches.items():
            age_s = (at_ns - match.last_reinforced) / 1e9
            linked = any(other in matches for other in match.linked)
            value = score(match.strength, age_s, match.intensity, linked)
            yield -value, -match.strength, trace_id

    return [(trace_id, -value) for value, _, trace_id in heapq.nsmallest(max(limit, 0), placed())]


def recall(
    store: TraceStore, found: Iterable[Entry], text: str, *, at_ns: int, limit: int, peek: bool
) -> list[Entry]:
    """Of the entries found those that have all the words, best first.

    Those that are returned have been reinforced (unless `peek`, or their kind never fades), and
    are as they are after that; `score` is the one they were chosen by.
    """
    chosen = best((e for e in found if matching(e, text)), at_ns, limit)
    answer = []
    for trace_id, value in chosen:
        entry = store.get(trace_id)
        if entry is not None and not peek and entry.decay_rate > 0 and store.reinforce(trace_id):
            entry = store.get(trace_id)
        if entry is not None:
            answer.append(msgspec.structs.replace(entry, score=value))
    return answer


class Searchable(Protocol):
    """What `resolved` needs of a store."""

    def get(self, trace_id: str) -> Entry | None: ...

    def each(self) -> Iterator[Entry]: ...


def resolved(store: Searchable, beginning: str) -> Entry:
    """The entry of this id, or the only one whose id begins so (4 characters or more).

    Raises NotFoundError.
    """
    entry = store.get(beginning)
    if entry is not None:
        return entry
    found = (
        [e for e in store.each() if e.trace_id.startswith(beginning)]
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
