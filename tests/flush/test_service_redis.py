"""Workers, flushers and operators as processes, on a real Redis and a real cluster."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afterglow.buffer.connect import connect
from afterglow.buffering import Desk, FileSinks, desk, supervised
from afterglow.config import BufferConfig, FlushConfig
from afterglow.errors import RolloutError
from afterglow.flush.supervisor import Supervisor
from afterglow.model.segment import BufferBooks
from afterglow.sink.segment_file import read_segments
from tests.flush.workers import Worker

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


@pytest.fixture
def plant(redis_url: str, tmp_path: Path) -> Iterator[Plant]:
    path = str(tmp_path / "segments.jsonl")
    config = config_of(redis_url)
    with (
        supervised(config, FLUSH, FileSinks(path), lambda _: None) as supervisor,
        desk(config) as operator,
    ):
        built = Plant(redis_url, tmp_path, supervisor, operator, seed=7)
        yield built
        supervisor.stop()
        for worker in built.workers:
            worker.kill()


def test_flushers_that_are_killed_all_the_time_lose_and_double_nothing(plant: Plant) -> None:
    plant.supervisor.start()
    for number in range(2):
        plant.start_worker(number)
    chance = random.Random(3)
    for _ in range(6):
        plant.until_more(3)
        victim = chance.choice(plant.supervisor.status())
        if victim.pid is not None:
            os.kill(victim.pid, signal.SIGKILL)
    plant.until(lambda: plant.supervisor.healthy)
    plant.finish()


def test_a_rollout_there_and_back_under_load(plant: Plant) -> None:
    """Two workers that add to the same traces, at times in different phases; flushers go on."""
    for expected in (2, 1, 0):
        assert plant.step("back") == expected
    plant.supervisor.start()
    follower = plant.start_worker(0)
    pinned = plant.start_worker(1, rollout_phase=0)
    plant.until_more(2)
    assert plant.step("advance") == 1
    plant.until(lambda: plant.phases().get(follower.pid) == (1,))
    assert plant.phases()[pinned.pid] == (0,)
    plant.until_more(3)  # two processes in two phases
    with pytest.raises(RolloutError, match="is pinned"):
        plant.operator.rollout.advance()
    pinned.stop()
    plant.gone.append(pinned)
    for name, expected in [("advance", 2), ("advance", 3), ("back", 2), ("back", 1), ("back", 0)]:
        assert plant.step(name) == expected
        plant.until(lambda phase=expected: plant.phases().get(follower.pid) == (phase,))  # type: ignore[misc]
        plant.until_more(2)
    plant.finish()


def test_two_hosts_share_the_shards_and_one_takes_over_from_the_other(
    redis_url: str, tmp_path: Path
) -> None:
    config = config_of(redis_url)
    sinks = FileSinks(str(tmp_path / "segments.jsonl"))
    flush = FlushConfig(flushers=1, idle_s=0.05, shard_lease_s=1.0)

    def shares(*hosts: Supervisor) -> list[int]:
        return [len(host.status()[0].shards) for host in hosts]

    def until(wanted: list[int], *hosts: Supervisor) -> None:
        end = time.monotonic() + 60
        while shares(*hosts) != wanted:
            assert time.monotonic() < end, shares(*hosts)
            for host in hosts:
                host.step(round_s=0.05)

    with (
        supervised(config, flush, sinks, host="a") as a,
        supervised(config, flush, sinks, host="b") as b,
    ):
        try:
            a.start()
            until([16], a)
            b.start()
            until([8, 8], a, b)
            assert a.status()[0].shards.isdisjoint(b.status()[0].shards)
            a.stop()
            until([16], b)
        finally:
            b.stop()
            a.stop()


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_walk_through_the_phases_with_workers_that_sleep_through_steps(
    plant: Plant, seed: int
) -> None:
    """A worker that is stopped in the middle of a batch wakes up two phases later."""
    chance = random.Random(seed)
    plant.seed = seed
    plant.supervisor.start()
    for number in range(2):
        plant.start_worker(number)
    phase = 3
    for round_number in range(10):
        plant.until_more(2)
        sleeper = chance.choice(plant.workers) if round_number % 3 == 0 else None
        if sleeper is not None:
            os.kill(sleeper.pid, signal.SIGSTOP)
            plant.until(lambda pid=sleeper.pid: pid not in plant.phases())  # type: ignore[misc]
        for _ in range(2):
            steps = [1] * (phase < 3) + [-1] * (phase > 0)
            step = chance.choice(steps)
            phase += step
            assert plant.step("advance" if step > 0 else "back") == phase
            if chance.random() < 0.3:
                victim = chance.choice(plant.supervisor.status())
                if victim.pid is not None:
                    os.kill(victim.pid, signal.SIGKILL)
        if sleeper is not None:
            os.kill(sleeper.pid, signal.SIGCONT)
    plant.finish()
