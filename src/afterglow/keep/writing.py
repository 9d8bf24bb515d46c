"""Changes to entries: worked out from what is there, and marked in the overlay.

Nobody else can change an entry between the look and the mark: an overlay's mark is read and
replaced under its lock, and a row counts only if no flush has cleared marks since it was asked
for (it could have been read before, and its mark gone by then).
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from afterglow.clock import Clock
from afterglow.keep.backend import Backend
from afterglow.keep.changes import Coactivated, Content, Reinforced, after_use, begun, restored
from afterglow.keep.dirty import Overlay
from afterglow.keep.encode import can_be_id
from afterglow.keep.entry import Moment, Record
from afterglow.keep.profile import Kind
from afterglow.keep.reading import Reading

__all__ = ["Writing", "fresh_id"]

Result = TypeVar("Result")


class Writing:
    """Marks changes. Any thread may use it."""

    def __init__(
        self,
        backend: Backend,
        overlay: Overlay,
        reading: Reading,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        self._backend = backend
        self._overlay = overlay
        self._reading = reading
        self._clock = clock
        self._counters = counters

    def _change(self, trace_id: str, change: Callable[[Record | None, Moment], Result]) -> Result:
        """Call `change` with what is there, in a state that nobody else changes meanwhile."""
        overlay = self._overlay
        moment = self._reading.moment()
        if not can_be_id(trace_id):
            with overlay.lock:
                return change(None, moment)
        while True:
            with overlay.lock:
                mark = overlay.marks.get(trace_id)
                if mark is not None:
                    return change(mark.record, moment)
                cleared = overlay.cleared
            found = self._backend.read([trace_id], links=False)
            moment = self._reading.learn(found.moment)
            with overlay.lock:
                if overlay.cleared == cleared and trace_id not in overlay.marks:
                    record = found.records.get(trace_id)
                    return change(None if record is None else overlay.record(record), moment)

    def store(self, trace_id: str | None, content: Content, kind: Kind, *, imprinting: bool) -> str:
        """Keep this under its id, or under a new one."""
        overlay, counters = self._overlay, self._counters

        def change(before: Record | None, moment: Moment) -> str:
            if before is None:
                now_ns = self._clock.wall_ns()
                new = begun(chosen, content, kind, moment.tick, now_ns, imprinting=imprinting)
                overlay.put(new, based=False)
                overlay.ingested += 1
                counters["stored"] += 1
                return chosen
            after = restored(before, content, kind, moment.tick)
            if after == before:
                counters["unchanged"] += 1
                return chosen
            overlay.put(after, based=True)
            counters["stored"] += 1
            return chosen

        chosen = fresh_id(self._clock.wall_ns()) if trace_id is None else trace_id
        if trace_id is not None:
            return self._change(trace_id, change)
        moment = self._reading.moment()
        with overlay.lock:
            return change(None, moment)

    def delete(self, trace_id: str) -> bool:
        """Leave a tombstone, if there is such an entry."""

        def change(before: Record | None, _moment: Moment) -> bool:
            if before is None:
                return False
            self._overlay.delete(trace_id, based=True)
            self._counters["deleted"] += 1
            return True

        return self._change(trace_id, change)

    def reinforce(self, trace_id: str, *, imprinting: bool) -> Reinforced:
        """Strengthen an entry, if it fades."""

        def change(before: Record | None, moment: Moment) -> Reinforced:
            if before is None:
                self._counters["refused"] += 1
                return Reinforced(trace_id, False, reason="not found")
            if before.decay_rate == 0:
                self._counters["refused"] += 1
                reason = f"{before.kind} does not fade, so it is not reinforced"
                return Reinforced(trace_id, False, before.strength(moment.tick), reason)
            now_ns = self._clock.wall_ns()
            after = after_use(before, moment.tick, now_ns, imprinting=imprinting)
            self._overlay.touch(after)
            self._counters["reinforced"] += 1
            return Reinforced(trace_id, True, after.anchor)

        return self._change(trace_id, change)

    def coactivate(self, a: str, b: str) -> Coactivated:
        """Count that two entries were active together."""
        if a == b:
            return self._refused("an entry does not link with itself")
        for trace_id in (a, b):
            if not can_be_id(trace_id):
                return self._refused(f"{trace_id!r} was not found")
        overlay = self._overlay
        while True:
            with overlay.lock:
                cleared = overlay.cleared
            bond = self._backend.bond(a, b)
            with overlay.lock:
                if overlay.cleared != cleared:
                    continue
                for trace_id, linked in ((a, bond.a_linked), (b, bond.b_linked)):
                    mark = overlay.marks.get(trace_id)
                    there = linked is not None if mark is None else mark.record is not None
                    if not there:
                        return self._refused(f"{trace_id!r} was not found")
                pair = overlay.coactivate(a, b, bond)
                self._counters["coactivated"] += 1
                return Coactivated(True, pair.count, pair.linked)

    def _refused(self, reason: str) -> Coactivated:
        self._counters["refused"] += 1
        return Coactivated(False, reason=reason)


def fresh_id(now_ns: int) -> str:
    """A UUID of version 7: random behind the milliseconds of its time.

    So new ids go to the end of an index. Those of version 4 would go all over it, and a flush
    of some hundred new entries into a large store would write a page for each.
    """
    milliseconds = now_ns // 1_000_000 & (1 << 48) - 1
    rest = int.from_bytes(os.urandom(10), "big")
    number = milliseconds << 80 | 7 << 76 | (rest >> 68) << 64 | 2 << 62 | rest & (1 << 62) - 1
    return str(uuid.UUID(int=number))
