"""Flushers for processes: what a supervisor's tests start, carried there by pickle."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from afterglow.config import FlushConfig
from afterglow.errors import SettingError
from afterglow.flush.flusher import Flusher
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, Fence, SegmentPart

CONFIG = FlushConfig(
    flushers=2,
    idle_s=0.02,
    retry_s=0.01,
    start_timeout_s=20,
    hung_s=1.0,
    steady_s=30,
    stop_timeout_s=20,
)


class Nothing:
    """A buffer that holds nothing, and a sink that is never asked."""

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> AddResult:
        raise AssertionError("nobody adds here")

    def take_due(
        self,
        now_ns: int,
        *,
        owner: str,
        shards: Collection[int] | None = None,
        max_segments: int = 1_000,
        max_bytes: int = 32 << 20,
    ) -> Iterator[list[SegmentPart]]:
        return iter(())

    def acknowledge(
        self, parts: Sequence[SegmentPart], *, dropped: BufferDropReason | None = None
    ) -> int:
        return len(parts)

    def release(self, parts: Sequence[SegmentPart]) -> None: ...

    def ledger(self) -> BufferBooks:
        return BufferBooks(0, 0, 0, {})

    def write(self, parts: Sequence[SegmentPart]) -> None: ...

    def close(self) -> None: ...


class OnePage(Nothing):
    """A buffer that has a page, once."""

    def take_due(self, *_: object, **__: object) -> Iterator[list[SegmentPart]]:
        yield [part_of(0)]


class SlowSink(Nothing):
    """Says that it began, and goes on when a file is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, parts: Sequence[SegmentPart]) -> None:
        (self.folder / "begun").touch()
        never = threading.Event()
        while not (self.folder / "go on").exists():
            never.wait(0.01)  # another process makes the file: there is no event between them
        (self.folder / "written").write_text(parts[0].message_id)

    def close(self) -> None:
        (self.folder / "closed").touch()


def part_of(number: int, *, size: int = 3) -> SegmentPart:
    return SegmentPart(
        message_id=f"{number:032x}",
        project="p",
        trace_id=number.to_bytes(16),
        root_span_id=number.to_bytes(8),
        part=0,
        is_last=True,
        addendum=False,
        span_ids=(number.to_bytes(8),),
        payloads=(b"x" * size,),
        fence=Fence("o", 1, 1),
    )


@dataclass
class Idle:
    """Flushers that have nothing to do."""

    def __call__(self, number: int) -> Flusher:
        return Flusher(Nothing(), Nothing(), owner=f"o{number}", shards=(), config=CONFIG)


@dataclass
class Slow:
    """Flushers in the middle of a page."""

    folder: Path

    def __call__(self, number: int) -> Flusher:
        return Flusher(
            OnePage(), SlowSink(self.folder), owner=f"o{number}", shards=(), config=CONFIG
        )


@dataclass
class Bad:
    """The number `bad` cannot be made; `for_ever` says so as a setting that is wrong."""

    bad: int
    for_ever: bool = False

    def __call__(self, number: int) -> Flusher:
        if number == self.bad:
            if self.for_ever:
                raise SettingError("that setting is wrong")
            raise OSError("told to fail")
        return Idle()(number)


@dataclass
class Never:
    """Makes nothing, for ever."""

    def __call__(self, number: int) -> Flusher:
        threading.Event().wait()
        raise AssertionError("unreachable")


class Dying(Nothing):
    """A buffer that ends the process once there is work."""

    def take_due(self, *_: object, **__: object) -> Iterator[list[SegmentPart]]:
        raise RuntimeError("poison")


@dataclass
class Poisoned:
    """Healthy at first, each time; then the number 0 dies of what it takes."""

    def __call__(self, number: int) -> Flusher:
        buffer = Dying() if number == 0 else Nothing()
        return Flusher(buffer, Nothing(), owner=f"o{number}", shards=(), config=CONFIG)
