"""The overlay: what has changed in this process and is not in the database yet.

A mark is a value that is replaced, never changed, and has a version of its own: a flush that
has written a mark clears it only if it is still the same one. Nothing here does I/O; every
method is called with `lock` held, for as long as a few dictionary steps take.

Marks and records refer to nothing that refers to them (`gc=False`): else each full collection
would walk all that is dirty, and stop the program for as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Literal

import msgspec

from afterglow.keep.backend import LINK_AT, MOST_LINKS, Bond
from afterglow.keep.entry import Links, Record

__all__ = ["Key", "Mark", "Overlay", "PairMark", "Taken"]

Key = tuple[str, str]


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What has become of one entry. Without a record it is a tombstone."""

    version: int
    how: Literal["put", "touch", "gone"]
    record: Record | None
    #: Whether the database has an entry of this id, as far as we know.
    based: bool
    #: Bytes of its payload.
    size: int = 0
    #: The version since which nothing in the database under this id counts; 0: it does.
    fresh_at: int = 0

    @property
    def surplus(self) -> int:
        """How many entries more there are than the database knows: -1 to 1."""
        return (self.record is not None) - self.based

    @property
    def severs(self) -> bool:
        """Whether links and children that the database has under this id are gone."""
        return self.record is None or self.fresh_at > 0

    @property
    def comes_twice(self) -> bool:
        """Whether it is written once more behind all that severs: its parent may be severed
        after it, and takes the link to it along."""
        return self.fresh_at > 0 and self.record is not None and self.record.parent_id is not None


class PairMark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Co-activations of two entries beyond `base`, which is what the database has."""

    version: int
    #: The version of the first mark of this pair since it was last cleared or cut.
    born: int
    base: int
    times: int
    linked: bool
    #: As Coactivation.link has it.
    link: bool | None

    @property
    def count(self) -> int:
        return self.base + self.times


class Taken(msgspec.Struct, frozen=True):
    """What a flush is to write: the names of all marks up to a version."""

    version: int
    severing: list[str]
    marks: list[str]
    pairs: list[Key]


class Overlay:
    """The marks of one store."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.marks: dict[str, Mark] = {}
        self.pairs: dict[Key, PairMark] = {}
        #: Ids of marks that sever what hangs on them: written before all others.
        self.severing: dict[str, None] = {}
        #: Entries newly stored that no flush has counted yet.
        self.ingested = 0
        #: Sum of the marks' surplus, and of the bytes of their payloads.
        self.surplus = 0
        self.payload_bytes = 0
        #: How often marks were cleared: who read the database before that may have read it too
        #: early, and looks again.
        self.cleared = 0
        #: Whether a flush is writing now.
        self.in_flight = False
        self._version = 0
        self._pairs_of: dict[str, set[str]] = {}
        self._children_of: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self.marks) + len(self.pairs)

    # --- marking --------------------------------------------------------------------------

    def put(self, record: Record, *, based: bool) -> None:
        """An entry was stored: new, or in place of what was there."""
        before = self.marks.get(record.trace_id)
        version = self._next()
        fresh_at = 0
        if before is not None:
            based = before.based
            fresh_at = version if before.record is None else before.fresh_at
        mark = Mark(
            version=version,
            how="put",
            record=record,
            based=based,
            size=record.payload_bytes,
            fresh_at=fresh_at,
        )
        self._set(record.trace_id, mark)

    def touch(self, record: Record) -> None:
        """An entry was reinforced."""
        before = self.marks.get(record.trace_id)
        version = self._next()
        if before is None:
            size = record.payload_bytes
            mark = Mark(version=version, how="touch", record=record, based=True, size=size)
        else:
            mark = msgspec.structs.replace(before, version=version, record=record)
        self._set(record.trace_id, mark)

    def delete(self, trace_id: str, *, based: bool) -> None:
        """An entry was deleted: its links go with it, and its children lose their parent."""
        before = self.marks.get(trace_id)
        if before is not None:
            based = before.based
        for other in list(self._pairs_of.get(trace_id, ())):
            self._set_pair(_key(trace_id, other), None)
        for child in list(self._children_of.get(trace_id, ())):
            mark = self.marks[child]
            assert mark.record is not None  # only records have parents
            orphan = msgspec.structs.replace(mark.record, parent_id=None)
            self._set(child, msgspec.structs.replace(mark, version=self._next(), record=orphan))
        self._set(trace_id, Mark(version=self._next(), how="gone", record=None, based=based))

    def coactivate(self, a: str, b: str, bond: Bond) -> PairMark:
        """Two entries were active together; `bond` is what the database has of them."""
        key = _key(a, b)
        before = self.pairs.get(key)
        if before is None:
            base = 0 if self.severed(a) or self.severed(b) else bond.count
            linked = bond.linked and not (self.severed(a) or self.severed(b))
            before = PairMark(
                version=0, born=self._next(), base=base, times=0, linked=linked, link=None
            )
        count = before.count + 1
        link = before.link
        linked = before.linked
        if not linked and count >= LINK_AT:
            linked = link = self.has_room(a, bond.a_linked) and self.has_room(b, bond.b_linked)
        mark = msgspec.structs.replace(
            before, version=self._next(), times=before.times + 1, linked=linked, link=link
        )
        self._set_pair(key, mark)
        return mark

    # --- what it makes of the database's answers ---------------------------------------------

    def severed(self, trace_id: str) -> bool:
        """Whether links and children that the database has of an entry are gone."""
        mark = self.marks.get(trace_id)
        return mark is not None and mark.severs

    def has_room(self, trace_id: str, linked: Iterable[str] | None) -> bool:
        """Whether an entry may have one more link."""
        return len(self._linked(trace_id, linked or ())) < MOST_LINKS

    def links(self, trace_id: str, links: Links) -> Links:
        """Links and children of an entry, from the database's."""
        marks = self.marks
        children = set(self._children_of.get(trace_id, ()))
        if not self.severed(trace_id):
            children.update(child for child in links.child_ids if child not in marks)
        linked = self._linked(trace_id, links.associated)
        return Links(tuple(sorted(linked)), tuple(sorted(children)))

    def record(self, record: Record) -> Record:
        """A record that the database has, less a parent that is gone."""
        if record.parent_id is not None and self.severed(record.parent_id):
            return msgspec.structs.replace(record, parent_id=None)
        return record

    def _linked(self, trace_id: str, linked: Iterable[str]) -> set[str]:
        found: set[str] = set()
        if not self.severed(trace_id):
            found.update(other for other in linked if not self.severed(other))
        for other in self._pairs_of.get(trace_id, ()):
            if self.pairs[_key(trace_id, other)].linked:
                found.add(other)
        return found

    # --- taking ---------------------------------------------------------------------------

    def taken(self) -> Taken:
        """What is marked now, by name: a copy of pointers, however much it is."""
        return Taken(self._version, list(self.severing), list(self.marks), list(self.pairs))

    # --- clearing -------------------------------------------------------------------------

    def settle(self, trace_id: str, written: Mark) -> None:
        """`written` is in the database now: clear it, or say so to the mark that followed it."""
        now = self.marks.get(trace_id)
        if now is None:
            return
        if now.version == written.version and not written.comes_twice:
            self._set(trace_id, None)
            return
        fresh_at = now.fresh_at if now.fresh_at > written.version else 0
        based = written.record is not None
        self._set(trace_id, msgspec.structs.replace(now, based=based, fresh_at=fresh_at))

    def settle_pair(self, key: Key, written: PairMark) -> None:
        """The same of a pair."""
        now = self.pairs.get(key)
        if now is None or now.version == written.version:
            self._set_pair(key, None)
        elif now.born == written.born:
            times = now.times - written.times
            later = msgspec.structs.replace(now, base=now.base + written.times, times=times)
            self._set_pair(key, later)

    def give_up(
        self, marks: Iterable[tuple[str, Mark]], pairs: Iterable[tuple[Key, PairMark]]
    ) -> None:
        """Forget marks that cannot be written, unless others have followed them."""
        for trace_id, mark in marks:
            if (now := self.marks.get(trace_id)) and now.version == mark.version:
                self._set(trace_id, None)
        for key, pair in pairs:
            if (later := self.pairs.get(key)) and later.version == pair.version:
                self._set_pair(key, None)
        self.cleared += 1

    def clear(self) -> None:
        """Forget all marks: the database has been replaced as a whole."""
        self.marks.clear()
        self.pairs.clear()
        self.severing.clear()
        self._pairs_of.clear()
        self._children_of.clear()
        self.ingested = self.surplus = self.payload_bytes = 0
        self.cleared += 1

    # --- bookkeeping ----------------------------------------------------------------------

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _set(self, trace_id: str, mark: Mark | None) -> None:
        before = self.marks.pop(trace_id, None)
        self.severing.pop(trace_id, None)
        if before is not None:
            self.surplus -= before.surplus
            self.payload_bytes -= before.size
            if before.record is not None:
                _discard(self._children_of, before.record.parent_id, trace_id)
        if mark is None:
            return
        self.marks[trace_id] = mark
        if mark.severs:
            self.severing[trace_id] = None
        self.surplus += mark.surplus
        self.payload_bytes += mark.size
        if mark.record is not None and mark.record.parent_id is not None:
            self._children_of.setdefault(mark.record.parent_id, set()).add(trace_id)

    def _set_pair(self, key: Key, mark: PairMark | None) -> None:
        a, b = key
        if mark is None:
            self.pairs.pop(key, None)
            _discard(self._pairs_of, a, b)
            _discard(self._pairs_of, b, a)
            return
        self.pairs[key] = mark
        self._pairs_of.setdefault(a, set()).add(b)
        self._pairs_of.setdefault(b, set()).add(a)


def _key(a: str, b: str) -> Key:
    return (a, b) if a < b else (b, a)


def _discard(index: dict[str, set[str]], key: str | None, value: str) -> None:
    if key is None or (found := index.get(key)) is None:
        return
    found.discard(value)
    if not found:
        del index[key]
