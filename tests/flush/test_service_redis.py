"""Workers, flushers and operators as processes, on a real Redis and a real cluster."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterglow.buffering import FileSinks, supervised
from afterglow.config import FlushConfig
from afterglow.errors import RolloutError
from afterglow.flush.supervisor import Supervisor
from tests.flush.plant import Plant, config_of, started

#: Each of these takes a dozen seconds: a cluster is what they are about, the rest is a soak.
mostly_on_a_cluster = pytest.mark.parametrize(
    "redis_url", [pytest.param("single", marks=pytest.mark.soak), "cluster"], indirect=True
)


@pytest.fixture
def plant(redis_url: str, tmp_path: Path) -> Iterator[Plant]:
    with started(redis_url, tmp_path) as plant:
        yield plant


@mostly_on_a_cluster
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


@mostly_on_a_cluster
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


@mostly_on_a_cluster
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


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_there_and_back_again_with_one_worker_a_phase_behind(plant: Plant, seed: int) -> None:
    """0 to 3 and back, three times: at each step one worker is stopped in the middle of its work,
    the other follows and goes on, then the first wakes up and ends its batch in the older phase."""
    chance = random.Random(seed)
    plant.seed = seed
    for expected in (2, 1, 0):
        assert plant.step("back") == expected
    plant.supervisor.start()
    for number in range(2):
        plant.start_worker(number)
    phase = 0
    for name, step in [*[("advance", 1)] * 3, *[("back", -1)] * 3] * 3:
        plant.until_more(1)
        sleeper, follower = chance.sample(plant.workers, 2)
        plant.until(lambda now=phase: set(plant.worker_phases()) == {(now,)})  # type: ignore[misc]
        os.kill(sleeper.pid, signal.SIGSTOP)
        phase += step
        assert plant.step(name) == phase
        pid = follower.pid
        plant.until(lambda pid=pid, now=phase: plant.phases().get(pid) == (now,))  # type: ignore[misc]
        wanted = follower.hear() + 3
        plant.until(lambda one=follower, n=wanted: one.hear() >= n)  # type: ignore[misc]
        assert plant.phases()[sleeper.pid] == (phase - step,)
        os.kill(sleeper.pid, signal.SIGCONT)
    plant.finish()
