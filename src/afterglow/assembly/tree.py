"""The tree of one trace, as far as it is known: entries are added, segments that are due come out.

The tree reads each span once: `extend` costs time in proportion to the entries that are new,
`plan` to the segments that are due. So a trace that stays open long costs linear time. No depth
is too deep: nothing here is recursive.

Spans are numbered in the order of entries and positions (*nodes*). A node's group is its segment
so far; groups are joined when the parent of an orphan comes (*joined into* another one).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import eq
from sys import byteorder
from typing import NamedTuple

from afterglow.assembly.due import DueQueue, Group, final_group
from afterglow.assembly.entry import Entry, keys_of
from afterglow.assembly.parts import Piece, SegmentPlan, ids_of_pieces, segment_plan
from afterglow.config.buffer import BufferConfig

__all__ = ["Plan", "Tree", "plan"]


class Plan(NamedTuple):
    """What a visit at one time finds.

    `segments` are due, in the order of their first spans. `duplicates` are repeats that were
    found since the plan before, due or not: to be dropped. `next_due_ns` is when the next of the
    segments that stay is due if nothing is added; None if none stays. `left` spans stay.
    """

    segments: list[SegmentPlan]
    duplicates: list[Piece]
    next_due_ns: int | None
    left: int


#: In the place of the group of a span: it is a repeat or has left; the walk is above it.
_GONE = Group(0, False)
_WALKING = Group(0, False)


class Tree:
    """The spans of one trace that are held. Not safe for two threads at once.

    `remembered` is the id of each span that went out, and of the root that it went out with
    (see `keys_of`); the tree only reads it, and it may be replaced. After a plan with segments,
    the tree takes no entry until `remove` was told of all of them; by then `remembered` has them,
    or never will.
    """

    def __init__(
        self, project: str, trace_id: bytes, config: BufferConfig, remembered: Mapping[int, int]
    ) -> None:
        self.entries: list[Entry | None] = []
        #: Nodes that are held no more.
        self.gone = 0
        self._trace = (project, trace_id)
        self.remembered = remembered
        self._max_segment_bytes = config.max_segment_bytes
        #: The first node of each entry.
        self._starts: list[int] = []
        #: The node of each span that is held.
        self._index: dict[int, int] = {}
        #: The group of each node, as it was when the node came.
        self._groups: list[Group] = []
        #: Orphans' groups by the parent that they wait for.
        self._waiting: dict[int, list[Group]] = {}
        #: Groups under spans that went out, by root.
        self._addenda: dict[int, Group] = {}
        self._duplicates: list[int] = []
        self._queue = DueQueue(config)

    def __len__(self) -> int:
        """How many spans are held."""
        return len(self._index)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries, in their order of arrival."""
        if not entries:
            return
        base = len(self._groups)
        keys = keys_of(b"".join([entry.span_ids for entry in entries]))
        parents = keys_of(b"".join([entry.parents for entry in entries]))
        flags = b"".join([entry.flags for entry in entries])
        first_entry = len(self.entries)
        start = base
        for entry in entries:
            self.entries.append(entry)
            self._starts.append(start)
            start += len(entry.flags)
        found: list[Group | None] = [None] * len(keys)
        clean = self._take_ids(keys, base, entries, found)
        self._resolve(keys, parents, flags, base, found)
        groups: list[Group] = found  # type: ignore[assignment]
        self._groups += groups
        touched = self._note(first_entry, base, groups, clean)
        if self._waiting and not self._waiting.keys().isdisjoint(keys):
            touched |= self._join_orphans(keys)
        for group in touched:
            self._queue.schedule(group)

    def plan(self, now_ns: int) -> Plan:
        """What is due now, cut into parts; see Plan."""
        due = [(self._nodes(group), group) for group in self._queue.take_due(now_ns)]
        due.sort(key=lambda found: found[0][0])
        segments = []
        n_due = 0
        for nodes, group in due:
            root = group.root
            n_due += len(nodes)
            if self._addenda.get(root) is group:
                del self._addenda[root]
            segments.append(
                segment_plan(
                    self._trace,
                    root.to_bytes(8, byteorder),
                    group.addendum,
                    self._pieces(nodes),
                    self.entries,
                    self._max_segment_bytes,
                )
            )
        duplicates, self._duplicates = self._pieces(self._duplicates), []
        left = len(self._index) - n_due
        return Plan(segments, duplicates, self._queue.next_due_ns(), left)

    def remove(self, pieces: Iterable[Piece]) -> None:
        """These went out: forget them. Entries that are wholly gone may be set to None."""
        index = self._index
        for ids in ids_of_pieces(pieces, self.entries):
            keys = keys_of(ids)
            self.gone += len(keys)
            for key in keys:
                del index[key]

    def _take_ids(
        self, keys: list[int], base: int, entries: Sequence[Entry], found: list[Group | None]
    ) -> bool:
        """Index the new spans; repeats, and those that left, are _GONE. False if there are any."""
        index = self._index
        if (
            all(entry.left is None for entry in entries)
            and (not index or index.keys().isdisjoint(keys))
            and (not self.remembered or self.remembered.keys().isdisjoint(keys))
        ):
            whole = len(index) + len(keys)
            index.update(zip(keys, range(base, base + len(keys)), strict=True))
            if len(index) == whole:
                return True
            # Repeats among the new: of two, the first counts.
            for key in set(keys):
                del index[key]
        at = 0
        for entry in entries:
            positions = range(len(entry.flags)) if entry.left is None else entry.left
            for i in range(at, at + len(entry.flags)):
                found[i] = _GONE
            for position in positions:
                i = at + position
                key = keys[i]
                if key in index or key in self.remembered:
                    self._duplicates.append(base + i)
                else:
                    index[key] = base + i
                    found[i] = None
            at += len(entry.flags)
        self.gone += sum(group is _GONE for group in found)
        return False

    def _resolve(
        self,
        keys: list[int],
        parents: list[int],
        flags: bytes,
        base: int,
        found: list[Group | None],
    ) -> None:
        """Find the group of each new node: walk up to one that has one, and no node twice."""
        up: list[int | None] = list(map(self._index.get, parents))
        marked = flags.count(0) != len(flags)
        if marked or any(map(eq, keys, parents)):
            for i, flag in enumerate(flags):
                if flag or keys[i] == parents[i]:
                    up[i] = None
                    parents[i] = 0
        groups = self._groups
        for i, above in enumerate(up):
            if found[i] is not None:
                continue
            if above is None:
                found[i] = self._top(keys[i], parents[i])
                continue
            group = groups[above] if above < base else found[above - base]
            if group is not None:
                found[i] = group
                continue
            path = [i]
            found[i] = _WALKING
            at = above - base
            while True:
                group = found[at]
                if group is not None:
                    break
                path.append(at)
                found[at] = _WALKING
                next_up = up[at]
                if next_up is None:
                    group = self._top(keys[at], parents[at])
                    break
                if next_up < base:
                    group = groups[next_up]
                    break
                at = next_up - base
            if group is _WALKING:
                group = Group(_smallest(keys[j] for j in path[path.index(at) :]), False)
            for j in path:
                found[j] = group

    def _top(self, key: int, parent: int) -> Group:
        """The group of a span whose parent is not held, or that is a root itself (parent 0)."""
        if not parent:
            return Group(key, True)
        root = self.remembered.get(parent)
        if root is None:
            group = Group(key, False)
            self._waiting.setdefault(parent, []).append(group)
            return group
        known = self._addenda.get(root)
        if known is None:
            known = self._addenda[root] = Group(root, True, addendum=True)
        return known

    def _note(self, first_entry: int, base: int, groups: list[Group], clean: bool) -> set[Group]:
        """Tell groups which nodes they got, and when. Returns the groups that got some."""
        entries = self.entries[first_entry:]
        if clean and len(set(groups)) == 1:
            group = final_group(groups[0])
            group.runs.append(range(base, base + len(groups)))
            for entry in entries:
                assert entry is not None
                group.note(entry.time_ns)
            return {group}
        touched: set[Group] = set()
        at = 0
        for entry in entries:
            assert entry is not None
            runs: dict[Group, list[int]] = {}
            for node, group in enumerate(groups[at : at + len(entry.flags)], base + at):
                if group in runs:
                    runs[group].append(node)
                else:
                    runs[group] = [node]
            runs.pop(_GONE, None)
            for group, nodes in runs.items():
                final = final_group(group)
                final.runs.append(nodes)
                final.note(entry.time_ns)
                touched.add(final)
            at += len(entry.flags)
        return touched

    def _join_orphans(self, keys: list[int]) -> set[Group]:
        """Parents came that orphans waited for. Returns the groups that got those orphans."""
        touched = set()
        for key in self._waiting.keys() & keys:
            node = self._index.get(key)
            if node is None:
                continue
            for orphan in self._waiting.pop(key):
                if orphan.out:
                    continue
                group = final_group(self._groups[node])
                if group is orphan:
                    group.root = _smallest(self._ring(key))
                else:
                    group.join(orphan)
                touched.add(group)
        return {final_group(group) for group in touched}

    def _ring(self, key: int) -> Iterator[int]:
        """The ids of a ring of parents, from one of them."""
        at = key
        while True:
            yield at
            node = self._index[at]
            number = bisect_right(self._starts, node) - 1
            entry = self.entries[number]
            assert entry is not None
            place = 8 * (node - self._starts[number])
            at = int.from_bytes(entry.parents[place : place + 8], byteorder)
            if at == key:
                return

    def _nodes(self, group: Group) -> Sequence[int]:
        """The nodes of a group, ascending."""
        runs = group.runs
        if len(runs) == 1:
            return runs[0]
        return sorted(chain.from_iterable(runs))

    def _pieces(self, nodes: Sequence[int]) -> list[Piece]:
        """Where nodes are, by entry."""
        starts = self._starts
        if isinstance(nodes, range):
            # Such runs are of whole entries.
            first = bisect_left(starts, nodes.start)
            end = bisect_left(starts, nodes.stop, first)
            return [
                Piece(number, range(len(entry.flags)))
                for number, entry in enumerate(self.entries[first:end], first)
                if entry is not None
            ]
        pieces = []
        at = 0
        while at < len(nodes):
            number = bisect_right(starts, nodes[at]) - 1
            start = starts[number]
            entry = self.entries[number]
            assert entry is not None
            end = bisect_left(nodes, start + len(entry.flags), at)
            if end - at == len(entry.flags):
                positions: Sequence[int] = range(len(entry.flags))
            else:
                positions = [node - start for node in nodes[at:end]]
            pieces.append(Piece(number, positions))
            at = end
        return pieces


def _smallest(keys: Iterable[int]) -> int:
    """The smallest id, as bytes compare."""
    return min(keys, key=lambda key: key.to_bytes(8, byteorder))


def plan(
    trace: tuple[str, bytes],
    entries: Sequence[Entry],
    now_ns: int,
    config: BufferConfig,
    remembered: Mapping[int, int],
) -> Plan:
    """What is due of these entries: a tree, filled and asked once."""
    tree = Tree(*trace, config, remembered)
    tree.extend(entries)
    return tree.plan(now_ns)
