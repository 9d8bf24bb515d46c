"""The disk queue of what is to be sent on, and its books, which change together.

Whatever happens is in one of the two first: what is put into the queue counts as taken once it is
there, and as sent once the books say so. What a process did not come to, between the two, is made
up for when the folder is opened again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Final

from afterglow.clock import Clock
from afterglow.config import SendConfig
from afterglow.counts import Counts
from afterglow.errors import SinkUnavailableError, SpoolError
from afterglow.model.segment import SegmentPart
from afterglow.sink.outgoing_books import Books, SentBooks
from afterglow.sink.outgoing_pages import pack, spans_of_parts, unpack
from afterglow.spool.frames import Position
from afterglow.spool.spool import Spool
from afterglow.write.complaints import Complaints

__all__ = ["Job", "Queue"]

#: Files of the queue go as they are sent; of a small queue there are eight at least.
_FILE_BYTES: Final = 16 << 20
_BOOK_FILE_BYTES: Final = 4 << 20


class Job:
    """What is sent as one; `position` is its place in the queue, None while it has none."""

    def __init__(self, parts: Sequence[SegmentPart], position: Position | None = None) -> None:
        self.parts = list(parts)
        #: Not settled yet: what is refused is halved, until the guilty part stands alone.
        self.groups = [self.parts]
        self.position = position
        self.queued_bytes = 0
        self.sent = 0
        self.refused = 0
        #: Settled, or in the queue, or `error` says why neither: whoever waits goes on.
        self.over = Event()
        self.error: SinkUnavailableError | None = None
        self.dropped = False

    @property
    def spans(self) -> int:
        return spans_of_parts(self.parts)

    def left(self) -> list[SegmentPart]:
        """The parts that are not settled."""
        return [part for group in self.groups for part in group]


class Queue:
    """Jobs in order, over restarts. Called by one thread at a time: its owner has the lock.

    Raises SpoolError for a folder that cannot be used, or that another process has.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        config: SendConfig,
        *,
        counts: Counts,
        clock: Clock,
        complaints: Complaints,
        remember_s: float,
    ) -> None:
        self._name = name
        self._folder = folder
        self._config = config
        self._counts = counts
        self._clock = clock
        self._complaints = complaints
        file_bytes = min(_FILE_BYTES, config.max_queue_bytes // 8)
        self._spool = Spool(
            folder / "queue", max_file_bytes=file_bytes, report=complaints.tell, clock=clock
        )
        try:
            books = Spool(
                folder / "books",
                max_file_bytes=_BOOK_FILE_BYTES,
                report=complaints.tell,
                clock=clock,
            )
            try:
                self._books = Books(books, remember_s, clock.wall_ns())
                self._totals = self._books.totals
                self._reader: Iterator[tuple[Position, bytes]] = iter(())
                self._learn()
            except BaseException:
                books.close()
                raise
        except BaseException:
            self._spool.close()
            raise

    def __len__(self) -> int:
        """How many spans wait."""
        return self.books().queued

    def books(self) -> SentBooks:
        """Where every span went."""
        return self._totals.books()

    def fresh(self, parts: Sequence[SegmentPart]) -> list[SegmentPart]:
        """Those that were not taken before; each once."""
        fresh: dict[bytes, SegmentPart] = {}
        for part in parts:
            message_id = bytes.fromhex(part.message_id)
            if message_id in self._books or message_id in fresh:
                self._totals.repeats += len(part.span_ids)
            else:
                fresh[message_id] = part
        return list(fresh.values())

    def put(self, job: Job, oldest: Job | None) -> None:
        """Put a job behind all others. Raises SinkUnavailableError where there is no room.

        `oldest` is the first of the queue where somebody has it in hand; it may be dropped.
        """
        record = pack(job.parts)
        self._make_room(len(record), oldest)
        try:
            job.position = self._spool.append(record)
        except SpoolError as error:
            raise SinkUnavailableError(f"{self._name} is away, and {error}") from error
        job.queued_bytes = len(record)
        totals = self._totals
        totals.counted = job.position
        totals.queued_bytes += len(record)
        totals.taken += job.spans
        self._note(job.parts)
        self._counts.add("sink_queued_spans", job.spans, sink=self._name)
        job.over.set()

    def next(self) -> Job | None:
        """The oldest job that was not given before: the caller has it in hand until it is settled.

        Raises SpoolError.
        """
        totals = self._totals
        if not len(self):
            return None
        try:
            found = next(self._reader, None)
            if found is None:
                self._reader = self._spool.read(totals.done)
                found = next(self._reader, None)
            if found is not None:
                position, record = found
                job = Job(unpack(record), position)
                job.queued_bytes = len(record)
                return job
        except SpoolError:
            self._reader = iter(())
            raise
        # Files were damaged, or removed by hand.
        gone = len(self)
        totals.dropped += gone
        totals.queued_bytes, totals.done = 0, totals.counted
        self._note()
        self._drop(gone, "damaged", f"{gone:,} spans are gone from {self._folder}")
        return None

    def settle(self, job: Job) -> None:
        """Book what of a job was sent or refused, and take it out of the queue if that is all.

        What is left of a job that has no place in the queue is the caller's still.
        """
        totals = self._totals
        totals.sent += job.sent
        totals.refused += job.refused
        if job.sent:
            self._counts.add("sink_spans", job.sent, sink=self._name)
        if job.refused:
            self._counts.add(
                "sink_dropped_spans", job.refused, sink=self._name, reason="sink_refused"
            )
        if job.position is not None:
            self._remove(job)
        elif job.sent or job.refused:
            left = {part.message_id for part in job.left()}
            over = [part for part in job.parts if part.message_id not in left]
            totals.taken += spans_of_parts(over)
            self._note(over)
        job.parts, job.sent, job.refused = job.left(), 0, 0

    def close(self) -> None:
        """Close the files; what waits stays there."""
        self._reader = iter(())
        self._spool.close()
        self._books.close()

    def _make_room(self, size: int, oldest: Job | None) -> None:
        """An empty queue takes anything, so that nothing is stuck for ever."""
        totals, config = self._totals, self._config
        while totals.queued_bytes and totals.queued_bytes + size > config.max_queue_bytes:
            if config.on_full == "refuse":
                raise SinkUnavailableError(
                    f"{self._name} is away, and its queue in {self._folder} is full "
                    f"({config.max_queue_bytes:,} bytes)"
                )
            job = oldest or self.next()
            oldest = None
            if job is None:
                return
            job.dropped = True  # it may be under way, and arrive all the same
            totals.dropped += job.spans
            self._remove(job)
            self._drop(
                job.spans, "queue_full", f"its queue in {self._folder} is full: the oldest go"
            )

    def _remove(self, job: Job) -> None:
        """The books say first that it is done: should we die now, it is not sent again."""
        assert job.position is not None
        self._totals.done = job.position
        self._totals.queued_bytes -= job.queued_bytes
        noted = self._note()
        self._forget()
        if not noted:
            self._note()  # the disk was full, and may have room now

    def _forget(self) -> None:
        try:
            self._spool.forget(self._totals.done)
        except SpoolError as error:  # it goes later
            self._complaints.say("forget", f"{self._name}: {error}")

    def _note(self, parts: Sequence[SegmentPart] = ()) -> bool:
        """Write the totals down, and that these parts are known now."""
        ids = [bytes.fromhex(part.message_id) for part in parts]
        if self._books.note(ids, self._clock.wall_ns()):
            self._complaints.over("books", f"{self._name}: its books can be written again")
            return True
        self._complaints.say(
            "books", f"cannot write {self._folder}/books: a kill may repeat spans until it can"
        )
        return False

    def _drop(self, spans: int, reason: str, message: str) -> None:
        self._counts.add("sink_dropped_spans", spans, sink=self._name, reason=reason)
        self._complaints.say(reason, f"{self._name}: {message}")

    def _learn(self) -> None:
        """Take what a process that died had put into the queue and not into the books."""
        totals = self._totals
        self._forget()
        for position, record in self._spool.read(totals.counted):
            parts = unpack(record)
            totals.counted = position
            totals.queued_bytes += len(record)
            totals.taken += spans_of_parts(parts)
            self._note(parts)
