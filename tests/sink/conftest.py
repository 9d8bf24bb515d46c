"""A real backend for what sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sink.backend import Backend
from tests.sink.outgoing_desk import Desk


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend().start()
    yield backend
    backend.stop()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "out" / "far")
    yield desk
    for outgoing in desk.opened:
        outgoing._queue.close()
