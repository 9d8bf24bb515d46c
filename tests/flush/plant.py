"""Workers, a supervisor with flushers, and an operator: all real processes, and their books."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from afterglow.buffer.connect import connect
from afterglow.buffering import Desk, FileSinks, desk, supervised
from afterglow.config import BufferConfig, FlushConfig
from afterglow.errors import RolloutError
from afterglow.flush.supervisor import Supervisor
from afterglow.model.segment import BufferBooks
from afterglow.sink.segment_file import read_segments
from tests.flush.workers import Worker

__all__ = ["Plant", "config_of", "started"]

FLUSH = FlushConfig(
    flushers=2,
    idle_s=0.05,
    retry_s=0.05,
    shard_lease_s=2.0,
    hung_s=30.0,
    max_segments=50,
)


def config_of(url: str, **settings: Any) -> BufferConfig:
    return BufferConfig(
        url=url,
        root_timeout_s=0.3,
        timeout_s=1.0,
        max_open_s=5.0,
        lease_s=1.5,
        tombstone_s=120.0,
        inline_bytes=0,
        **settings,
    )


class Plant:
    """Workers that add, a supervisor with flushers into one file, and an operator."""

    def __init__(
        self, url: str, folder: Path, supervisor: Supervisor, operator: Desk, seed: int
    ) -> None:
        self.url = url
        self.operator = operator
        self.path = folder / "segments.jsonl"
        self.supervisor = supervisor
        self.seed = seed
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []

    def start_worker(self, number: int, **settings: Any) -> Worker:
        worker = Worker(self.url, config_of(self.url, **settings), number, self.seed)
        self.workers.append(worker)
        return worker

    def replace(self, worker: Worker) -> Worker:
        """Kill a worker, be it in the middle of a batch; another begins where it was heard last."""
        worker.kill()
        heir = Worker(self.url, config_of(self.url), worker.number, self.seed, worker.hear())
        self.workers[self.workers.index(worker)] = heir
        return heir

    def until(self, what: Callable[[], bool], within_s: float = 60) -> None:
        end = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < end, (self.supervisor.status(), self.books())
            self.supervisor.step(round_s=0.05)

    def until_more(self, batches: int) -> None:
        """Until each worker has added so many more."""
        wanted = {one: one.hear() + batches for one in self.workers if one not in self.gone}
        self.until(lambda: all(worker.hear() >= n for worker, n in wanted.items()))

    def books(self) -> BufferBooks:
        return self.operator.inspector.books()

    def step(self, name: str) -> int:
        """Take a step of the rollout as soon as it is not refused; the phase then."""
        found: list[int] = []

        def taken() -> bool:
            try:
                found.append(getattr(self.operator.rollout, name)().phase)
            except RolloutError:
                return False
            return True

        self.until(taken)
        return found[0]

    def phases(self) -> dict[int, tuple[int, ...]]:
        """The phases that each process that is there works in, by pid."""
        return {
            one.pid: one.phases
            for one in self.operator.rollout.processes()
            if one.standing != "gone"
        }

    def worker_phases(self) -> list[tuple[int, ...]]:
        """The phases that each worker works in."""
        phases = self.phases()
        return [phases.get(worker.pid, ()) for worker in self.workers]

    def finish(self) -> None:
        """Stop the workers, wait for the buffer to be empty, stop the flushers; then count."""
        for worker in self.workers:
            if worker not in self.gone:
                worker.stop()
        self.until(lambda: self.books().held == 0)
        self.supervisor.stop()
        added = Counter(
            (span.trace_id.hex(), span.span_id.hex(), span.payload)
            for worker in self.workers
            for span in worker.added()
        )
        assert len(added) > 100 and set(added.values()) == {1}
        written = Counter(
            (line.trace_id, span.span_id, span.payload)
            for line in read_segments(self.path)
            for span in line.spans
        )
        assert written - added == Counter(), "doubled"
        assert added - written == Counter(), "lost"
        books = self.books()
        assert books.balanced and books.delivered == len(added)
        assert set(books.dropped.get("shop", {})) <= {"duplicate"}
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        nodes = connect(self.url, 5.0)
        kinds = Counter(
            key.split(b":")[1]
            for _, client in nodes.masters()
            for key in client.scan_iter(b"*", 1_000)
        )
        nodes.close()
        assert set(kinds) <= {b"ctl", b"ssr", b"ssm"}, kinds


@contextmanager
def started(url: str, folder: Path, seed: int = 7) -> Iterator[Plant]:
    """A plant whose supervisor was not started yet; what still runs at the end is ended."""
    path = str(folder / "segments.jsonl")
    config = config_of(url)
    with (
        supervised(config, FLUSH, FileSinks(path), lambda _: None) as supervisor,
        desk(config) as operator,
    ):
        built = Plant(url, folder, supervisor, operator, seed)
        try:
            yield built
        finally:
            supervisor.stop()
            for worker in built.workers:
                worker.kill()
