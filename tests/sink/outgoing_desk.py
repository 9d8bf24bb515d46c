"""An Outgoing by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afterglow.config import SendConfig
from afterglow.counts import Counts
from afterglow.sink.outgoing import Outgoing
from afterglow.sink.outgoing_books import SentBooks
from afterglow.testing import ManualClock
from tests.sink.far_sink import FarSink


class Desk:
    """An Outgoing stepped by hand, opened again and again on one folder and one far side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sink = FarSink()
        self.clock = ManualClock()
        self.counts = Counts()
        self.said: list[str] = []
        self.settings: dict[str, Any] = {"max_request_bytes": 1 << 10}
        self.opened: list[Outgoing] = []
        self.outgoing: Outgoing

    def open(self, **settings: Any) -> Outgoing:
        self.settings |= settings
        self.outgoing = Outgoing(
            "far",
            self.sink,
            self.folder,
            SendConfig(**self.settings),
            counts=self.counts,
            clock=self.clock,
            report=self.said.append,
            chance=lambda: 1.0,
            remember_s=300.0,
            threaded=False,
        )
        self.opened.append(self.outgoing)
        return self.outgoing

    def restart(self, **settings: Any) -> Outgoing:
        """As after a kill: nothing was closed but what the system closes."""
        self.crash()
        return self.open(**settings)

    def crash(self) -> None:
        queue = self.outgoing._queue
        queue._spool.close()
        queue._books.close()

    def drain(self) -> None:
        """Step until nothing waits; time goes on as the steps ask for."""
        for _ in range(10_000):
            if not self.outgoing.books().queued:
                return
            self.clock.advance_s(self.outgoing.step())
        raise AssertionError("it never came to an end")

    @property
    def books(self) -> SentBooks:
        books = self.outgoing.books()
        assert books.balanced
        return books

    def count(self, name: Any, **labels: str) -> int:
        wanted = tuple(sorted({"sink": "far", **labels}.items()))
        return self.counts.read().get((name, wanted), 0)
