"""The back ends that the contract of SegmentBuffer is held against: a line each in BACKENDS.

A back end is made from pytest's request, so that it may ask for the fixture of its server. Its
`new` gives a buffer with nothing in it (a new key prefix, or a server that was emptied).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
import pytest

from afterglow.buffer import MemoryBuffer, RedisBuffer
from afterglow.buffer.journaled import JournaledBuffer
from afterglow.config import BufferConfig, IntakeConfig
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


def journaled(request: pytest.FixtureRequest) -> Backend:
    """In small files, so that they begin and go all the time."""
    folders = request.getfixturevalue("tmp_path_factory").mktemp("intake")
    numbers = count()
    opened: list[JournaledBuffer] = []
    request.addfinalizer(lambda: [buffer.close() for buffer in opened])

    def new(config: BufferConfig) -> SegmentBuffer:
        intake = IntakeConfig(max_file_bytes=64 << 10)
        opened.append(JournaledBuffer.open(folders / str(next(numbers)), config, intake))
        return opened[-1]

    return Backend(new, lambda buffer: buffer, examples=30)


def redis_at(url: str) -> Backend:
    """A Redis that the test may write to; each new buffer has keys of its own."""
    numbers = count()
    config = BufferConfig()

    def new(given: BufferConfig) -> SegmentBuffer:
        nonlocal config
        prefix = given.key_prefix and f"contract{next(numbers)}"
        config = msgspec.structs.replace(given, key_prefix=prefix)
        return RedisBuffer.from_url(url, config)

    return Backend(new, lambda _: RedisBuffer.from_url(url, config), examples=10)


def redis_single(request: pytest.FixtureRequest) -> Backend:
    return redis_at(request.getfixturevalue("redis_single").url)


def redis_cluster(request: pytest.FixtureRequest) -> Backend:
    return redis_at(request.getfixturevalue("redis_cluster").url)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": memory,
    "journaled": journaled,
    "redis": redis_single,
    "redis-cluster": redis_cluster,
}
