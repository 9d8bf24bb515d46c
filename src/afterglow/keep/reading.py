"""What people see: the overlay and the database's rows as one.

The overlay is looked at first. Whatever was marked before that and cleared since is in the
database by the time that the database is asked.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from afterglow.clock import Clock, breathe
from afterglow.errors import SettingError
from afterglow.keep.backend import Backend, Found, Selection
from afterglow.keep.decay import faded, score
from afterglow.keep.dirty import Mark, Overlay
from afterglow.keep.encode import can_be_id, least_strength, whole
from afterglow.keep.entry import Entry, Links, Moment, Record, entry_of

__all__ = ["Reading", "Step", "by_strength"]

_PORTION: Final = 256
_NS: Final = 1_000_000_000
#: How long a moment is good for that nobody has told us anew: others may advance the tick.
_MOMENT_NS: Final = 1 * _NS
#: Looks at a count that a flush is changing just now, before we take what we have.
_LOOKS: Final = 100
_NO_LINKS: Final = Links()
#: A limit beyond this is none; databases take no larger number than twice as much.
_MOST: Final = 1 << 62


class Step(NamedTuple):
    """An entry that a walk came to: its id, its distance in hops, and the ids on the way."""

    trace_id: str
    depth: int
    path: tuple[str, ...]


class Reading:
    """Reads; changes nothing. Any thread may use it."""

    def __init__(self, backend: Backend, overlay: Overlay, clock: Clock) -> None:
        self._backend = backend
        self._overlay = overlay
        self._clock = clock
        self._known_moment = (0, Moment())  # good until, on the monotonic clock; one assignment

    # --- time -----------------------------------------------------------------------------

    def moment(self) -> Moment:
        """Where decay stands, as of a second ago at most."""
        good_until, moment = self._known_moment
        if self._clock.monotonic_ns() < good_until:
            return moment
        return self.learn(self._backend.totals().moment)

    def learn(self, moment: Moment) -> Moment:
        """The database has just said where decay stands."""
        self._known_moment = (self._clock.monotonic_ns() + _MOMENT_NS, moment)
        return moment

    def forget_moment(self) -> None:
        """The tick has moved: ask for it anew."""
        self._known_moment = (0, Moment())

    # --- entries --------------------------------------------------------------------------

    def entries(self, ids: Sequence[str]) -> dict[str, Entry]:
        """By id, those that are there."""
        found: dict[str, Entry] = {}
        ids = [trace_id for trace_id in ids if can_be_id(trace_id)]
        for start in range(0, len(ids), _PORTION):
            self._portion(ids[start : start + _PORTION], found)
        return found

    def entry(self, trace_id: str) -> Entry | None:
        """The one of this id, or None."""
        return next(iter(self.entries([trace_id]).values()), None)

    def _portion(self, ids: Sequence[str], into: dict[str, Entry]) -> None:
        overlay = self._overlay
        with overlay.lock:
            marks = {i: mark for i in ids if (mark := overlay.marks.get(i)) is not None}
        asked = [i for i in ids if i not in marks or marks[i].record is not None]
        if not asked:
            return
        found = self._backend.read(asked, links=True)
        self.learn(found.moment)
        now_ns = self._clock.wall_ns()
        for trace_id in asked:
            view = self._view(trace_id, marks.get(trace_id), found)
            if view is not None:
                record, links = view
                into[trace_id] = entry_of(
                    record, self._backend.partition, found.moment, links, now_ns
                )

    def _view(self, trace_id: str, mark: Mark | None, found: Found) -> tuple[Record, Links] | None:
        record = found.records.get(trace_id) if mark is None else mark.record
        if record is None:
            return None
        overlay = self._overlay
        links = found.links.get(trace_id, _NO_LINKS)
        with overlay.lock:
            if len(overlay):
                record = overlay.record(record) if mark is None else record
                links = overlay.links(trace_id, links)
        return record, links

    def known(self, ids: Iterable[str]) -> set[str]:
        """Which of these are there."""
        with self._overlay.lock:
            marks = {i: mark for i in ids if (mark := self._overlay.marks.get(i)) is not None}
        there = {i for i, mark in marks.items() if mark.record is not None}
        others = [i for i in ids if i not in marks]
        return there | self._backend.known(others) if others else there

    def count(self) -> int:
        """How many entries there are."""
        overlay = self._overlay
        for look in range(_LOOKS):
            with overlay.lock:
                before = (overlay.cleared, overlay.in_flight, overlay.surplus)
            totals = self._backend.totals()
            with overlay.lock:
                now = (overlay.cleared, overlay.in_flight, overlay.surplus)
            if before == now and not now[1]:
                break
            if look:
                breathe()  # a flush is about to be done with what it writes
        self.learn(totals.moment)
        return totals.entries + before[2]

    # --- strongest first ------------------------------------------------------------------

    def strongest(
        self, selection: Selection, min_strength: float, limit: int | None
    ) -> list[Entry]:
        """The strongest that match, strongest first (ties by id). Raises SettingError."""
        min_strength, limit = least_strength(min_strength), _most(limit)
        scored = self._scored(selection, min_strength, limit)
        chosen = sorted(scored) if limit is None else heapq.nsmallest(limit, scored)
        ids = [trace_id for _, trace_id in chosen]
        return by_strength(self.entries(ids).values(), min_strength, limit)

    def each(self, selection: Selection, min_strength: float) -> Iterator[Entry]:
        """All that match, in no order, read a portion at a time: for looks at everything.

        Not one moment's: what is deleted meanwhile is left out, what comes may be.
        """
        ids = [trace_id for _, trace_id in self._scored(selection, min_strength, None)]
        for start in range(0, len(ids), _PORTION):
            yield from self.entries(ids[start : start + _PORTION]).values()

    def _scored(
        self, selection: Selection, min_strength: float, limit: int | None
    ) -> Iterator[tuple[float, str]]:
        overlay = self._overlay
        with overlay.lock:
            marks = dict(overlay.marks)
        moment = self.moment()
        for mark in marks.values():
            record = mark.record
            if record is not None and _matches(record, selection):
                strength = record.strength(moment.tick)
                if strength >= min_strength:
                    yield -strength, record.trace_id
        if limit is not None:
            limit = min(limit, _MOST) + len(marks)  # what is marked may be among the strongest
        for moment, candidates in self._backend.candidates(selection, min_strength, limit):
            tick = moment.tick
            for one in candidates:
                if one.trace_id in marks:
                    continue
                since = max(0, tick - one.anchor_tick)
                strength = faded(one.curve, one.anchor, one.decay_rate, since, one.intensity)
                if strength >= min_strength:
                    yield -strength, one.trace_id

    def associated(self, trace_id: str, min_strength: float, limit: int | None) -> list[Entry]:
        """The entries that one is linked with, strongest first. Raises SettingError."""
        min_strength, limit = least_strength(min_strength), _most(limit)
        entry = self.entry(trace_id)
        if entry is None:
            return []
        return by_strength(self.entries(entry.associated).values(), min_strength, limit)

    def ranked(
        self, ids: Sequence[str], at_ns: int, min_strength: float, limit: int | None
    ) -> list[Entry]:
        """These by retrieval score at a time, best first (ties by id). Raises SettingError."""
        min_strength, limit = least_strength(min_strength), _most(limit)
        if isinstance(ids, str):
            raise SettingError(f"ids={ids!r} is one text; give a list of ids: [{ids!r}]")
        at_ns = whole(at_ns, "at (ns since 1970)")
        wanted = {trace_id for trace_id in ids if can_be_id(trace_id)}
        scored = []
        for entry in self.entries(list(wanted)).values():
            if entry.strength < min_strength:
                continue
            age_s = (at_ns - entry.last_reinforced) / _NS
            linked = not wanted.isdisjoint(entry.associated)
            value = score(entry.strength, age_s, entry.intensity, linked)
            scored.append(msgspec.structs.replace(entry, score=value))
        scored.sort(key=lambda entry: (-(entry.score or 0.0), entry.trace_id))
        return scored[:limit]

    def walk(self, start: str, max_hops: int, min_strength: float) -> list[Step]:
        """Breadth first along associations; weaker entries are not entered. Raises SettingError."""
        min_strength, max_hops = least_strength(min_strength), whole(max_hops, "max_hops")
        if not can_be_id(start):
            return []
        seen = {start}
        level = [Step(start, 0, (start,))]
        found: list[Step] = []
        for depth in range(1, max_hops + 1):
            here = self.entries([step.trace_id for step in level])
            ahead: dict[str, tuple[str, ...]] = {}
            for step in level:
                if (entry := here.get(step.trace_id)) is not None:
                    for other in entry.associated:
                        if other not in seen:
                            ahead.setdefault(other, (*step.path, other))
            seen.update(ahead)
            there = self.entries(list(ahead))
            level = [
                Step(trace_id, depth, path)
                for trace_id, path in ahead.items()
                if trace_id in there and there[trace_id].strength >= min_strength
            ]
            if not level:
                break
            found += level
        return found


def by_strength(entries: Iterable[Entry], min_strength: float, limit: int | None) -> list[Entry]:
    """Strongest first, ties by id."""
    found = sorted(
        (entry for entry in entries if entry.strength >= min_strength),
        key=lambda entry: (-entry.strength, entry.trace_id),
    )
    return found[:limit]


def _most(limit: int | None) -> int | None:
    return None if limit is None else whole(limit, "limit")


def _matches(record: Record, selection: Selection) -> bool:
    if selection.by == "all":
        return True
    if selection.by == "kind":
        return record.kind == selection.value
    return selection.value in record.tags
