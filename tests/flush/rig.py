"""A real memory buffer with a clock moved by hand, sinks that note everything, and death."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from afterglow.buffer.memory import MemoryBuffer
from afterglow.buffer.redis import RedisBuffer
from afterglow.config import BufferConfig, FlushConfig
from afterglow.flush.flusher import Flusher
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import BufferedSpan, SegmentPart
from afterglow.ports import SegmentBuffer
from afterglow.testing import ManualClock

SPANS_A_TRACE = 3


def spans_of(trace: int, *, size: int = 10) -> list[BufferedSpan]:
    """A root and two children."""
    root = (trace * 10 + 1).to_bytes(8)
    return [
        BufferedSpan(
            "p",
            (trace + 1).to_bytes(16),
            (trace * 10 + 1 + i).to_bytes(8),
            root if i else None,
            False,
            b"%d-%d" % (trace, i) + b"." * size,
        )
        for i in range(SPANS_A_TRACE)
    ]


class Noting:
    """A sink that keeps every part it is given, and raises what `trouble` says."""

    def __init__(self) -> None:
        self.parts: list[SegmentPart] = []
        self.writes = 0
        self.closed = False
        self.trouble: Callable[[Sequence[SegmentPart]], Exception | None] = lambda _: None

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self.writes += 1
        if (error := self.trouble(parts)) is not None:
            raise error
        self.parts += parts

    def close(self) -> None:
        self.closed = True

    def spans(self) -> list[bytes]:
        """Payloads, each message id once."""
        return sorted(
            payload
            for part in {part.message_id: part for part in self.parts}.values()
            for payload in part.payloads
        )


class Pressed:
    """Who notes that ingest should wait."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.looks = 0

    def press(self, reason: str) -> None:
        self.said.append(reason)

    def watch(self) -> None:
        self.looks += 1


class Killed(BaseException):
    """The process is no more."""


class Mortal:
    """A buffer and a sink of a process that is killed at its nth call, before or after it.

    What a killed process would do next is not done: neither release nor close.
    """

    def __init__(self, buffer: SegmentBuffer, sink: Noting, call: int, *, before: bool) -> None:
        self._buffer, self._sink = buffer, sink
        self._left, self._before = call, before
        self.dead = False

    def _do(self, work: Callable[[], Any]) -> Any:
        self._left -= 1
        if self.dead or (self._left == 0 and self._before):
            self.dead = True
            raise Killed
        result = work()
        if self._left == 0:
            self.dead = True
            raise Killed
        return result

    def take_due(self, now_ns: int, **how: Any) -> Iterator[list[SegmentPart]]:
        pages = self._buffer.take_due(now_ns, **how)
        while (page := self._do(lambda: next(pages, None))) is not None:
            yield page

    def acknowledge(
        self, parts: Sequence[SegmentPart], *, dropped: BufferDropReason | None = None
    ) -> int:
        count: int = self._do(lambda: self._buffer.acknowledge(parts, dropped=dropped))
        return count

    def release(self, parts: Sequence[SegmentPart]) -> None:
        self._do(lambda: self._buffer.release(parts))

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self._do(lambda: self._sink.write(parts))

    def close(self) -> None: ...


class Rig:
    """A buffer with traces in it, and flushers."""

    def __init__(self, *, url: str | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.config = BufferConfig(**settings)
        self.buffer: SegmentBuffer = (
            RedisBuffer.from_url(url, self.config) if url else MemoryBuffer(self.config)
        )
        self.sink = Noting()
        self.pressure = Pressed()
        self.said: list[str] = []
        self.expected: list[bytes] = []

    def add(self, *traces: int, size: int = 10) -> None:
        for trace in traces:
            spans = spans_of(trace, size=size)
            assert self.buffer.add(spans, self.clock.wall_ns()).accepted == len(spans)
            self.expected += [span.payload for span in spans]

    def due(self) -> None:
        """Let time pass until all that was added is due."""
        self.clock.advance_s(self.config.timeout_s)

    def flusher(
        self,
        owner: str = "a",
        *,
        buffer: Any = None,
        sink: Any = None,
        shards: Collection[int] | None = None,
        **settings: Any,
    ) -> Flusher:
        return Flusher(
            buffer or self.buffer,
            sink or self.sink,
            owner=owner,
            shards=shards,
            clock=self.clock,
            config=FlushConfig(**settings),
            lease_s=self.config.lease_s,
            pressure=self.pressure,
            report=self.said.append,
            chance=lambda: 1.0,
        )

    def check_all_out(self) -> None:
        assert self.sink.spans() == sorted(self.expected)
        books = self.buffer.ledger()
        assert (books.delivered, books.held) == (len(self.expected), 0)
        assert books.balanced
