"""Worker processes that add spans for as long as they are told to; what they added is known."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

from afterglow.buffer.redis import RedisBuffer
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan

TRACES_A_BATCH = 8
SPANS_A_TRACE = 6
WORKERS = 2


def batch_of(worker: int, number: int, seed: int) -> list[BufferedSpan]:
    """The nth batch of a worker: its share of some traces that it has in common with the other."""
    chance = random.Random(f"{seed} {worker} {number}")
    first = number * TRACES_A_BATCH + 1
    spans = [
        BufferedSpan(
            "shop",
            trace.to_bytes(16),
            (trace * SPANS_A_TRACE + i).to_bytes(8),
            (trace * SPANS_A_TRACE + i // 2).to_bytes(8) if i else None,
            False,
            b"%d %d %d " % (worker, trace, i) + chance.randbytes(200),
        )
        for trace in range(first, first + TRACES_A_BATCH)
        for i in range(worker, SPANS_A_TRACE, WORKERS)
    ]
    chance.shuffle(spans)
    return spans


def work(
    url: str, config: BufferConfig, worker: int, seed: int, number: int, pipe: Connection
) -> None:
    """Add batch after batch, each until it is taken; say how many there are, until told to stop.

    `number` is the first: one that takes the place of one that died begins where that was heard
    of last, as a sender repeats what was not confirmed.
    """
    buffer = RedisBuffer.from_url(url, config, role="collector")
    while not pipe.poll(0.01):
        spans = batch_of(worker, number, seed)
        while buffer.add(spans, time.time_ns()).refused:
            if pipe.poll(0.05):
                break
        else:
            number += 1
            if number % 5 == 0:  # a batch that comes again is nothing new
                buffer.add(spans, time.time_ns())
            pipe.send(number)
    buffer.close()
    pipe.send(-1)


class Worker:
    """A worker process, as its test sees it."""

    def __init__(
        self, url: str, config: BufferConfig, number: int, seed: int, begin: int = 0
    ) -> None:
        context = get_context("spawn")
        self.number = number
        self._seed = seed
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(url, config, number, seed, begin, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.batches = begin

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def hear(self) -> int:
        """How many batches it has added by now."""
        with suppress(EOFError, ConnectionResetError):  # it was killed, maybe in mid-word
            while self._pipe.poll():
                self.batches = max(self.batches, self._pipe.recv())
        return self.batches

    def stop(self) -> None:
        """Let it finish its batch and end."""
        self._pipe.send("stop")
        while (said := self._pipe.recv()) != -1:
            self.batches = max(self.batches, said)
        self._process.join(60)
        assert self._process.exitcode == 0

    def kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def added(self) -> Iterator[BufferedSpan]:
        """Every span that it added, once."""
        for number in range(self.batches):
            yield from batch_of(self.number, number, self._seed)
