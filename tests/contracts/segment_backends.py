"""The back ends that the contract of SegmentBuffer is held against: a line each in BACKENDS.

A back end is made from pytest's request, so that it may ask for the fixture of its server. Its
`new` gives a buffer with nothing in it (a new key prefix, or a server that was emptied).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from afterglow.buffer import MemoryBuffer
from afterglow.config import BufferConfig
from afterglow.ports import SegmentBuffer

__all__ = ["BACKENDS", "Backend"]


@dataclass(frozen=True)
class Backend:
    #: An empty buffer.
    new: Callable[[BufferConfig], Any]
    #: The same buffer as another process would open it.
    another: Callable[[Any], Any]
    #: How many examples hypothesis tries: fewer where a step is a round trip.
    examples: int = 100


def memory(request: pytest.FixtureRequest) -> Backend:
    def new(config: BufferConfig) -> SegmentBuffer:
        return MemoryBuffer(config)

    return Backend(new, lambda buffer: buffer)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": memory,
}
