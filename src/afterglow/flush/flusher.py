"""One flusher: takes pages that are due, writes each to the sink, and acknowledges it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from random import Random
from typing import Final, Protocol

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.config import BufferConfig, FlushConfig
from afterglow.counts import Counted
from afterglow.errors import SinkError, SinkUnavailableError, SpanBufferError
from afterglow.flush.backoff import back_off_s
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentBuffer, SegmentSink
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["FlushCounts", "Flusher", "NoPressure", "Pressure"]

#: A page goes back when so much of its lease is over: what is left is for giving it back.
_LEASE_SHARE: Final = 0.7

#: Parts, and None when the sink has them, or why it never will.
Written = tuple[list[SegmentPart], BufferDropReason | None]


class Pressure(Protocol):
    """Whom a flusher tells that it is behind; neither ever raises."""

    def press(self, reason: str) -> None: ...

    def watch(self) -> None:
        """Called at every step: look at what else may be full, now and then."""
        ...


class NoPressure:
    """For a buffer whose own bound makes senders wait."""

    def press(self, reason: str) -> None: ...

    def watch(self) -> None: ...


class FlushCounts(msgspec.Struct):
    """What a flusher did since it began. `stale` parts were somebody else's when acknowledged."""

    pages: int = 0
    parts: int = 0
    spans: int = 0
    payload_bytes: int = 0
    refused_spans: int = 0
    stale: int = 0
    retries: int = 0
    released: int = 0


class Flusher:
    """Call `step()` in a loop: it does one page's work and says how long to wait. One thread.

    `shards` None is all of them. It owns `sink`, which `close` closes, and `buffer` only where
    `owns_buffer` says so.
    """

    def __init__(
        self,
        buffer: SegmentBuffer,
        sink: SegmentSink,
        *,
        owner: str,
        shards: Collection[int] | None = None,
        clock: Clock | None = None,
        config: FlushConfig | None = None,
        lease_s: float = BufferConfig().lease_s,
        pressure: Pressure | None = None,
        report: Callable[[str], None] = to_stderr,
        chance: Callable[[], float] | None = None,
        owns_buffer: bool = False,
        counted: Callable[[], Counted] = dict,
    ) -> None:
        self._buffer = buffer
        self._owns_buffer = owns_buffer
        self._sink = sink
        self._owner = owner
        self._clock = clock or SystemClock()
        self._config = config or FlushConfig()
        self._lease_ns = round(lease_s * _LEASE_SHARE * 1e9)
        self._pressure: Pressure = pressure or NoPressure()
        self._complaints = Complaints(report, self._clock)
        self._chance = chance or Random().random
        self.counts = FlushCounts()
        #: What the sink counts; for the supervisor of another process.
        self.counted = counted
        #: The shards of the pages in hand, and those that the next ones are taken from.
        self.shards = self._next_shards = None if shards is None else frozenset(shards)
        self._pages: Iterator[list[SegmentPart]] | None = None
        self._taken = 0
        self._page: list[SegmentPart] = []
        self._taken_ns = 0
        #: Of the page in hand: what is in the sink (or refused), and the buffer does not know yet.
        self._written: list[Written] = []
        self._failures = 0
        self._behind_ns: int | None = None
        self._behind = ""

    def assign(self, shards: Collection[int] | None) -> None:
        """Take from these shards next; `shards` says so once what is in hand is done."""
        self._next_shards = None if shards is None else frozenset(shards)
        if self._pages is None:
            self.shards = self._next_shards

    def step(self) -> float:
        """Do what is to do; seconds to wait before the next step, 0 when there is more.

        Raises only what nobody foresaw; the page in hand has gone back then.
        """
        self._pressure.watch()
        try:
            wait_s = self._step()
        except SinkUnavailableError as error:
            wait_s = self._failed("sink", f"the sink is away, {error}")
        except SpanBufferError as error:
            wait_s = self._failed("buffer", f"the buffer is away, {error}")
        except BaseException:
            self.give_back()
            raise
        self._press()
        return wait_s

    def give_back(self) -> None:
        """Release what is in hand: it is due again at once, for anybody. Never raises."""
        pages, page, written = self._pages, self._page, self._written
        self._drop_pages()
        try:
            if page and not written:
                self._buffer.release(page)
                self.counts.released += len(page)
            if pages is not None:
                close = getattr(pages, "close", None)
                if close is not None:
                    close()
        except SpanBufferError:
            return  # the leases end by themselves

    def close(self, within_s: float = 0.0) -> None:
        """Finish the page in hand, and for so long what was taken with it; close the sink.

        What the sink does not take goes back, or its lease ends: it goes out later.
        """
        until_ns = self._clock.monotonic_ns() + round(within_s * 1e9)
        try:
            while self._page or (self._pages is not None and self._clock.monotonic_ns() < until_ns):
                if self._page or self._next_page():
                    self._deliver()
        except (SinkError, SpanBufferError):
            pass
        finally:
            self.give_back()
            self._sink.close()
            if self._owns_buffer:
                self._buffer.close()

    # --- one step -----------------------------------------------------------------------------

    def _step(self) -> float:
        if not self._page and not self._next_page():
            self._failures = 0
            self._complaints.over("buffer", "the buffer answers again")
            return self._config.idle_s if not self._is_full() else 0.0
        self._deliver()
        if self._failures:
            self._failures = 0
            self._complaints.over("sink", "the sink takes segments again")
            self._complaints.over("buffer", "the buffer answers again")
        return 0.0

    def _next_page(self) -> bool:
        """Get the next page in hand; False when nothing more of this take is due."""
        if self._pages is None:
            self.shards = self._next_shards
            self._taken = 0
            if self.shards is not None and not self.shards:
                self._caught_up()
                return False
            self._taken_ns = self._clock.monotonic_ns()
            self._pages = iter(
                self._buffer.take_due(
                    self._clock.wall_ns(),
                    owner=self._owner,
                    shards=self.shards,
                    max_segments=self._config.max_segments,
                    max_bytes=self._config.page_bytes,
                )
            )
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            self.shards = self._next_shards
            if not self._is_full():
                self._caught_up()
            return False
        self._page = page
        self._taken += sum(part.is_last for part in page)
        return bool(page)

    def _is_full(self) -> bool:
        """The last take was of as much as may be taken at once: there is more, surely."""
        if self._taken >= self._config.max_segments:
            self._fell_behind("more is due than it can flush")
            return True
        return False

    def _deliver(self) -> None:
        """Write the page in hand and acknowledge it; what is left to do stays if that raises."""
        if not self._written:
            self._written = self._write(self._page)
        while self._written:
            parts, dropped = self._written[0]
            self._count(parts, self._buffer.acknowledge(parts, dropped=dropped), dropped)
            del self._written[0]
        self._page = []
        self.counts.pages += 1

    def _write(self, page: list[SegmentPart]) -> list[Written]:
        """Give a page to the sink; what to say of its parts to the buffer.

        Where the sink refuses a page for ever, each part is tried alone, so that the guilty
        one alone is dropped.
        """
        try:
            self._sink.write(page)
        except SinkUnavailableError:
            raise
        except SinkError as error:
            if len(page) > 1:
                return [written for part in page for written in self._write([part])]
            root = page[0].root_span_id.hex()
            self._complaints.say("refused", f"the sink refuses segment {root} for ever: {error}")
            return [(page, "sink_refused")]
        return [(page, None)]

    def _count(self, parts: list[SegmentPart], ours: int, dropped: BufferDropReason | None) -> None:
        spans = sum(len(part.span_ids) for part in parts)
        self.counts.stale += len(parts) - ours
        if dropped:
            self.counts.refused_spans += spans
            return
        self.counts.parts += len(parts)
        self.counts.spans += spans
        self.counts.payload_bytes += sum(len(p) for part in parts for p in part.payloads)

    # --- when something is away, or we are behind -----------------------------------------------

    def _failed(self, kind: str, message: str) -> float:
        """Something is away: how long to wait. The page stays in hand while its lease allows."""
        self._failures += 1
        self.counts.retries += 1
        self._complaints.say(kind, f"{message}; trying again, nothing is lost")
        self._fell_behind(message)
        wait_s = back_off_s(self._config.retry_s, self._failures, self._chance())
        if not self._page:
            self._drop_pages()  # the iterator is at its end, having raised
        elif self._clock.monotonic_ns() + wait_s * 1e9 - self._taken_ns >= self._lease_ns:
            self.give_back()
        return wait_s

    def _drop_pages(self) -> None:
        self._pages, self._page, self._written, self._taken = None, [], [], 0
        self.shards = self._next_shards

    def _fell_behind(self, reason: str) -> None:
        if self._behind_ns is None:
            self._behind_ns = self._clock.monotonic_ns()
        self._behind = reason

    def _caught_up(self) -> None:
        self._behind_ns = None

    def _press(self) -> None:
        since_ns = self._behind_ns
        if since_ns is None:
            return
        if self._clock.monotonic_ns() - since_ns >= self._config.limit_s * 1e9:
            self._pressure.press(f"flusher {self._owner} is behind: {self._behind}")
