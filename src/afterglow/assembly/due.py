"""Groups of spans, and the queue of when they are due."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from afterglow.config.buffer import BufferConfig

__all__ = ["DueQueue", "Group", "final_group"]

_NEVER_NS = 1 << 100


class Group:
    """A segment so far: which nodes it has, and what decides when it is due."""

    __slots__ = (
        "addendum",
        "due_ns",
        "first_ns",
        "into",
        "last_ns",
        "out",
        "root",
        "rooted",
        "runs",
    )

    def __init__(self, root: int, rooted: bool, addendum: bool = False) -> None:
        self.root = root
        #: The root was seen (held or gone out), rather than being an orphan's or a ring's.
        self.rooted = rooted
        self.addendum = addendum
        self.first_ns = _NEVER_NS
        self.last_ns = -_NEVER_NS
        #: Its nodes: runs of numbers, ascending each, in no order.
        self.runs: list[Sequence[int]] = []
        #: The group that it was joined into.
        self.into: Group | None = None
        #: It came out of a plan.
        self.out = False
        #: The earliest time that the queue has for it; never later than when it is due.
        self.due_ns: int | None = None

    def note(self, time_ns: int) -> None:
        """Something was added at that time."""
        if time_ns < self.first_ns:
            self.first_ns = time_ns
        if time_ns > self.last_ns:
            self.last_ns = time_ns

    def join(self, orphan: Group) -> None:
        """The parent that the orphan waited for is in this group."""
        orphan.into = self
        self.note(orphan.first_ns)
        self.note(orphan.last_ns)
        if len(self.runs) < len(orphan.runs):
            self.runs, orphan.runs = orphan.runs, self.runs
        self.runs += orphan.runs
        orphan.runs = []


def final_group(group: Group) -> Group:
    """The group that this one was joined into, at last; shortens the way for the next."""
    final = group
    while final.into is not None:
        final = final.into
    while group.into is not None:
        group.into, group = final, group.into
    return final


class DueQueue:
    """When groups are due. An entry of the queue is never later than that, maybe earlier."""

    def __init__(self, config: BufferConfig) -> None:
        self._root_timeout_ns = round(config.root_timeout_s * 1e9)
        self._timeout_ns = round(config.timeout_s * 1e9)
        self._max_open_ns = round(config.max_open_s * 1e9)
        #: (time, tie-breaker, group); valid while the time is the group's `due_ns`.
        self._heap: list[tuple[int, int, Group]] = []
        self._pushes = 0

    def schedule(self, group: Group) -> None:
        """See that the queue has a time for the group that is not later than when it is due."""
        self._push(group, self._due_ns(group))

    def take_due(self, now_ns: int) -> list[Group]:
        """The groups that are due, in no order; they are out of the queue."""
        due = []
        while (head := self._settled()) is not None and head[0] <= now_ns:
            heappop(self._heap)
            head[2].out = True
            due.append(head[2])
        return due

    def next_due_ns(self) -> int | None:
        """When the next group is due; None if there is no group."""
        head = self._settled()
        return None if head is None else head[0]

    def _settled(self) -> tuple[int, int, Group] | None:
        """The head of the queue, with the exact time. Each addition is paid for once."""
        heap = self._heap
        while heap:
            when_ns, _, group = heap[0]
            if group.into is None and not group.out and when_ns == group.due_ns:
                exact_ns = self._due_ns(group)
                if exact_ns == when_ns:
                    return heap[0]
                group.due_ns = None
                heappop(heap)
                self._push(group, exact_ns)
            else:
                heappop(heap)
        return None

    def _push(self, group: Group, due_ns: int) -> None:
        if group.due_ns is None or due_ns < group.due_ns:
            group.due_ns = due_ns
            self._pushes += 1
            heappush(self._heap, (due_ns, self._pushes, group))

    def _due_ns(self, group: Group) -> int:
        quiet_ns = self._root_timeout_ns if group.rooted else self._timeout_ns
        return min(group.last_ns + quiet_ns, group.first_ns + self._max_open_ns)
