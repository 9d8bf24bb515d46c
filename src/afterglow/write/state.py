"""What a batch says besides its finished spans: the process, its open spans, its counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from afterglow.clock import Clock, anchor_of
from afterglow.config import RecordConfig
from afterglow.ledger import Ledger
from afterglow.model.flat import ATTRIBUTES, START, WIDTH, Flat
from afterglow.model.run import Process
from afterglow.ports import SpanBatch
from afterglow.write.complaints import Complaints
from afterglow.write.delivery import Care
from afterglow.write.prepare import cleaned_counts, cleaned_process, prepare, scrub

__all__ = ["MAX_OPEN", "State"]

#: So many open spans are saved, those that were begun first.
MAX_OPEN: Final = 10_000

#: Wall clocks further apart than this were stepped.
_STEP_NS: Final = 1_000_000_000


class State:
    """Gathered at most once in `interval_ns`; a batch in between says of open spans: as before.

    So a thousand open spans cost each batch nothing, and an idle program with open spans writes
    its state once, not for ever. One thread at a time (the writer's step).
    """

    def __init__(
        self,
        *,
        process: Callable[[], Process],
        seed: Callable[[], int],
        open_rows: Callable[[int], Flat],
        counts: Callable[[], dict[str, int]],
        record: RecordConfig,
        clock: Clock,
        interval_ns: int,
        complaints: Complaints,
    ) -> None:
        self._process_now = process
        self._seed = seed
        self._open_rows = open_rows
        self._counts_now = counts
        self._record = record
        self._clock = clock
        self._interval_ns = interval_ns
        self._complaints = complaints
        #: Wall time = monotonic time + this; the one anchor of the whole tracer.
        self.wall_offset_ns = anchor_of(clock).offset_ns
        self._gathered_ns = clock.monotonic_ns()
        self._process: Process | None = None
        self._counts: dict[str, int] = {}
        # What the newest batch in the sink said; owner: `wrote`.
        self._open = self._written_open = Flat()
        self._written_counts: dict[str, int] = {}
        self._written_ledger: tuple[Any, ...] = _essence(None)

    def due(self, now: int) -> bool:
        """Whether it is time to look again."""
        return now - self._gathered_ns >= self._interval_ns

    def changed(self, ledger: Ledger) -> bool:
        """Whether there is anything to say that the sink does not know, besides spans."""
        return (
            self._open is not self._written_open
            or self._counts != self._written_counts
            or _essence(ledger) != self._written_ledger
        )

    def gather(self, now: int, *, every: bool = False) -> None:
        """Look again; `every`: at all open spans, however young, for the last batch."""
        self._gathered_ns = now
        self._follow_wall_clock()
        try:
            self._process = self._process_now()
            self._gather_open(now + 1 if every else now - self._interval_ns)
            self._counts = dict(self._counts_now())
        except Exception as error:  # spans do not wait for what goes beside them
            if self._process is None:
                raise
            self._complaints.say_error("state", "open spans or counts are not up to date", error)

    def _gather_open(self, begun_before_ns: int) -> None:
        rows = _oldest(self._open_rows(begun_before_ns))
        if rows:
            # Ours to clean; the program goes on setting attributes of the spans themselves.
            rows[ATTRIBUTES::WIDTH] = list(map(dict, rows[ATTRIBUTES::WIDTH]))
            prepare(rows, self._record, _not_counted)
        self._open = self._written_open if rows == self._written_open else rows

    def batch(self, flat: Flat, care: Care, ledger: Ledger, *, last: bool) -> SpanBatch:
        """The batch of these finished spans, with what has changed beside them."""
        now = self._clock.monotonic_ns()
        if self._process is None or last or self.due(now):
            self.gather(now, every=last)
        process = self._process or self._process_now()
        if last and process.end_ns is None:
            process = msgspec.structs.replace(process, end_ns=self._clock.wall_ns())
        open_rows = None if self._open is self._written_open and not last else self._open
        counts = self._counts
        if care is not Care.PREPARED:
            process, counts = cleaned_process(process), cleaned_counts(counts)
            if open_rows:
                scrub(open_rows, self._record, _not_counted)
        if care is Care.BARE:
            open_rows = None
        return SpanBatch(
            flat, open_rows, process, self._seed(), self.wall_offset_ns, ledger, counts, last
        )

    def wrote(self, batch: SpanBatch) -> None:
        """The sink has it."""
        if batch.open is not None:
            self._written_open = batch.open
        self._written_counts = self._counts
        self._written_ledger = _essence(batch.ledger)

    def forget(self) -> None:
        """What was said of open spans may be gone with its file: say it again if there are any."""
        if self._written_open:
            self._written_open = Flat()

    def after_fork(self) -> None:
        """In a forked child: nothing was gathered, nothing written."""
        self._process = None
        self._open = self._written_open = Flat()
        self._counts, self._written_counts = {}, {}
        self._written_ledger = _essence(None)

    def _follow_wall_clock(self) -> None:
        # The two clocks drift apart by far less than a second a day; more means that the wall
        # clock was set, or that the machine slept while the monotonic clock stood still. Spans
        # that began before keep their durations and move as a whole.
        offset_ns = anchor_of(self._clock).offset_ns
        if abs(offset_ns - self.wall_offset_ns) > _STEP_NS:
            self.wall_offset_ns = offset_ns


def _not_counted(_kind: str, _times: int) -> None:
    """What cleaning changes in an open span is counted when it has ended."""


def _essence(ledger: Ledger | None) -> tuple[Any, ...]:
    """What must be different for the books to be written anew."""
    if ledger is None:
        return (0, {}, {})
    return (ledger["written"], dict(ledger["dropped"]), dict(ledger["not_recorded"]))


def _oldest(rows: Flat) -> Flat:
    if len(rows) <= MAX_OPEN * WIDTH:
        return rows
    first = sorted(range(0, len(rows), WIDTH), key=lambda row: rows[row + START])[:MAX_OPEN]
    return [value for row in first for value in rows[row : row + WIDTH]]
