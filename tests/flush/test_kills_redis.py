"""kill -9 in turn: a worker, a flusher, a master of the cluster, while all the others go on."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from scripts.redis_cluster import RedisCluster
from tests.flush.plant import Plant, started


def kill_a_worker(plant: Plant, chance: random.Random) -> None:
    plant.replace(chance.choice(plant.workers))


def kill_a_flusher(plant: Plant, chance: random.Random) -> None:
    pids = [one.pid for one in plant.supervisor.status() if one.pid is not None]
    os.kill(chance.choice(pids), signal.SIGKILL)


@pytest.mark.parametrize(
    "seed, rounds", [(1, 1), *(pytest.param(seed, 10, marks=pytest.mark.soak) for seed in (2, 3))]
)
def test_a_worker_a_flusher_and_a_master_are_killed_in_turn(
    redis_cluster: RedisCluster, tmp_path: Path, seed: int, rounds: int
) -> None:
    """What was added is written once, whoever died; the books say so too (Plant.finish)."""
    chance = random.Random(seed)
    with started(redis_cluster.url, tmp_path, seed) as plant:
        plant.supervisor.start()
        for number in range(2):
            plant.start_worker(number)
        for _ in range(rounds):
            plant.until_more(chance.randrange(1, 6))
            kill_a_worker(plant, chance)
            plant.until_more(chance.randrange(1, 6))
            kill_a_flusher(plant, chance)
            plant.until_more(chance.randrange(1, 6))
            dead = redis_cluster.kill(chance.choice(redis_cluster.masters()))
            redis_cluster.wait_promoted(dead)
            plant.until_more(1)
            redis_cluster.restart(dead)
            redis_cluster.wait_until_ok()
        plant.until(lambda: plant.supervisor.healthy)
        plant.finish()
