"""One taken batch on its way into the sink, and what the books say became of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from afterglow.errors import SinkError, SinkUnavailableError, UnencodableError
from afterglow.handover import Handover
from afterglow.model.clean import safe_str
from afterglow.model.flat import WIDTH, Flat
from afterglow.ports import SpanBatch, SpanSink
from afterglow.write.complaints import Complaints

__all__ = ["Care", "Delivery"]

#: What a sink's counters say of spans that are lost after `write` has returned for them: to a limit
#: of its files, or because the other side took the rest of them.
_LOST: Final = ("journal_limit", "sink_refused")


class Care(IntEnum):
    """How much was done so that the sink can encode a part."""

    PREPARED = 0
    SCRUBBED = 1  # each value was cleaned
    BARE = 2  # and nothing goes with the spans but what must


class _Part:
    __slots__ = ("care", "flat", "last")

    def __init__(self, flat: Flat, care: Care, *, last: bool = False) -> None:
        self.flat = flat
        self.care = care
        self.last = last

    def __len__(self) -> int:
        return len(self.flat) // WIDTH


#: Makes what the sink takes of spans: (flat, care, last).
MakeBatch = Callable[[Flat, Care, bool], SpanBatch]


class Delivery:
    """The batch that is being written: one, or what is left of it.

    Each span that was added is settled in the books exactly once: as written, as dropped for
    what the sink said of it, or by `give_up`. `_claim` decides between the thread that writes
    and whoever gives up on it while it hangs in the sink.
    """

    def __init__(
        self,
        handover: Handover,
        sink: SpanSink,
        make: MakeBatch,
        scrub: Callable[[Flat], None],
        wrote: Callable[[SpanBatch], None],
        elsewhere: Callable[[], None],
        complaints: Complaints,
    ) -> None:
        self._handover = handover
        self._sink = sink
        self._make = make
        self._scrub = scrub
        self._wrote = wrote
        self._elsewhere = elsewhere
        self._complaints = complaints
        self._parts: deque[_Part] = deque()
        self._claim = threading.Lock()
        self._given_up = False
        #: Spans of this process that its sink has said it lost after they were written.
        self._lost: dict[str, int] = {}
        #: How many files the sink has begun.
        self._journals: int | None = None
        #: Grows whenever something was settled: whoever waits sees that writing goes on.
        self.progress = 0

    def __len__(self) -> int:
        """How many parts wait to be written."""
        return len(self._parts)

    def add(self, flat: Flat, *, last: bool = False) -> None:
        """A new batch; only when there is none."""
        with self._claim:
            if self._given_up:
                self._handover.settle(dropped={"shutdown_timeout": len(flat) // WIDTH})
            else:
                self._parts.append(_Part(flat, Care.PREPARED, last=last))

    def attempt(self) -> None:
        """Write what there is. Raises SinkUnavailableError when the sink cannot now."""
        while (part := self._first()) is not None:
            batch = self._make(part.flat, part.care, part.last)
            try:
                self._sink.write(batch)
            except SinkUnavailableError:
                raise
            except UnencodableError as error:
                self._more_care(part, error)
            except Exception as error:  # noqa: BLE001  the seam: any other exception refuses
                self._refuse(part, error)
            else:
                self._settle(part, written=len(part))
                self._wrote(batch)
            self._count_lost()

    def give_up(self, reason: str) -> int:
        """Drop what has not been written, for ever; how many spans that was.

        A batch that hangs in the sink may reach it all the same, later: the books call it
        dropped, for nobody waits to see.
        """
        with self._claim:
            self._given_up = True
            left = sum(map(len, self._parts))
            self._parts.clear()
            self._handover.settle(dropped={reason: left})
            return left

    def _first(self) -> _Part | None:
        with self._claim:
            return self._parts[0] if self._parts else None

    # --- what became of a part ----------------------------------------------------------

    def _settle(
        self, part: _Part, *, written: int = 0, dropped: dict[str, int] | None = None
    ) -> None:
        with self._claim:
            if self._given_up:
                return
            self._parts.popleft()
            self._handover.settle(written=written, dropped=dropped)
            self.progress += 1

    def _more_care(self, part: _Part, error: UnencodableError) -> None:
        if part.care is Care.PREPARED:
            part.care = Care.SCRUBBED  # first, so that what raises here is not tried for ever
            self._scrub(part.flat)
        elif part.care is Care.SCRUBBED:
            part.care = Care.BARE
        elif len(part) > 1:
            self._halve(part)
        else:
            self._complaints.say(
                "unencodable", f"a span cannot be encoded and was dropped: {safe_str(error)}"
            )
            self._settle(part, dropped={"unencodable": len(part)})

    def _halve(self, part: _Part) -> None:
        """Halves of halves until the guilty spans stand alone, all others being written."""
        middle = len(part) // 2 * WIDTH
        with self._claim:
            if self._given_up:
                return
            self._parts.popleft()
            self._parts.appendleft(_Part(part.flat[middle:], part.care, last=part.last))
            self._parts.appendleft(_Part(part.flat[:middle], part.care))
            self.progress += 1

    def _refuse(self, part: _Part, error: Exception) -> None:
        why = safe_str(error)
        if not isinstance(error, SinkError):
            why = f"{type(error).__name__}: {why}"
        self._complaints.say("refused", f"the sink refused {len(part)} spans: {why}")
        self._settle(part, dropped={"sink_refused": len(part)})

    def _count_lost(self) -> None:
        """Move what the sink has lost since from written to dropped."""
        try:
            counters: dict[str, Any] = dict(self._sink.counters())
        except Exception as error:  # noqa: BLE001  a sink's counters must not stop the writing
            self._complaints.say_error("counters", "the sink's counters cannot be read", error)
            return
        if counters.get("journals") != self._journals:
            self._journals = counters.get("journals")
            self._elsewhere()
        for reason in _LOST:
            new = counters.get(reason, 0) - self._lost.get(reason, 0)
            if new > 0:
                self._lost[reason] = counters[reason]
                self._handover.settle(lost={reason: new})
