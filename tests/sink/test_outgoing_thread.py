"""The thread that sends: slow sinks, and what nobody foresaw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from afterglow.config import SendConfig
from afterglow.errors import SinkUnavailableError, SpoolError
from afterglow.model.segment import SegmentPart
from afterglow.sink.outgoing import Outgoing
from afterglow.sink.outgoing_books import SentBooks
from afterglow.spool.spool import Spool
from tests.sink.far_sink import FarSink, ids, part


class GatedSink(FarSink):
    """Hangs in `write` until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.raises: Exception | None = None

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        if self.raises is not None:
            raise self.raises
        super().write(parts)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Outgoing]]:
    opened: list[Outgoing] = []
    sinks: list[GatedSink] = []

    def start(sink: GatedSink, **settings: Any) -> Outgoing:
        sinks.append(sink)
        opened.append(
            Outgoing("far", sink, tmp_path / "o", SendConfig(**settings), report=lambda _: None)
        )
        return opened[-1]

    yield start
    for sink in sinks:
        sink.gate.set()
    for outgoing in opened:
        outgoing.close()


def until(condition: Callable[[], bool]) -> None:
    never = threading.Event()
    for _ in range(3_000):
        if condition():
            return
        never.wait(0.01)
    raise AssertionError("it never happened")


def test_a_slow_sink_holds_nobody_up(start: Callable[..., Outgoing]) -> None:
    """What takes longer than patience_s goes to the disk; it is not sent a second time."""
    sink = GatedSink()
    outgoing = start(sink, patience_s=0.05)
    outgoing.write([part(1, spans=2)])
    assert sink.entered.is_set()
    books = outgoing.books()
    assert (books.taken, books.queued) == (2, 2)
    outgoing.write([part(2)])
    sink.gate.set()
    until(lambda: not outgoing.books().queued)
    assert sink.got == ids(1, 2)
    assert outgoing.books() == SentBooks(taken=3, sent=3)


def test_a_slow_sink_and_a_disk_that_is_full(
    start: Callable[..., Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page comes back while it is being sent: it is waited for, not sent again."""
    sink = GatedSink()
    outgoing = start(sink, patience_s=0.05)

    def full(spool: Spool, record: bytes) -> None:
        raise SpoolError("the disk is full")

    monkeypatch.setattr(outgoing._queue._spool, "append", full.__get__(outgoing._queue._spool))
    for _ in range(2):
        with pytest.raises(SinkUnavailableError):
            outgoing.write([part(1)])
    sink.gate.set()
    until(lambda: outgoing.books().sent == 1)
    outgoing.write([part(1)])
    assert sink.got == ids(1)
    assert outgoing.books() == SentBooks(taken=1, sent=1, repeats=1)


def test_what_nobody_foresaw_is_kept_and_tried_again(start: Callable[..., Outgoing]) -> None:
    sink = GatedSink()
    sink.gate.set()
    sink.raises = RuntimeError("a bug")
    outgoing = start(sink, retry_s=0.01)
    outgoing.write([part(1)])
    assert outgoing.books().queued == 1
    sink.raises = None
    until(lambda: outgoing.books().sent == 1)
    assert sink.got == ids(1)


def test_sent_by_the_thread_when_it_is_back(start: Callable[..., Outgoing]) -> None:
    sink = GatedSink()
    sink.gate.set()
    sink.away = True
    outgoing = start(sink, retry_s=0.01)
    for number in range(20):
        outgoing.write([part(number)])
    sink.away = False
    until(lambda: not outgoing.books().queued)
    assert sink.got == ids(*range(20))
