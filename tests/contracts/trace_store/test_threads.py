"""Many threads on one store, and stores on one database: at the end memory and rows agree."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from afterglow.clock import monotonic_ns
from afterglow.keep.store import TraceStore
from tests.contracts.trace_store.conftest import Stores

THREADS = 4


class Worker(threading.Thread):
    """Does what it draws, to entries of its own and to those that all share."""

    def __init__(self, store: TraceStore, number: int, seed: int, steps: int, until: int) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.steps = steps
        self.until = until
        #: What must be there at the end: payloads of this worker's own entries.
        self.own: dict[str, int] = {}
        self.reinforced: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            step = 0
            while step < self.steps or monotonic_ns() < self.until:
                step += 1
                self.step(step)
        except BaseException as error:
            self.error = error
            raise

    def step(self, step: int) -> None:
        store, draw = self.store, self.random
        mine = f"{self.number}/{draw.randrange(30)}"
        shared = f"shared/{draw.randrange(10)}"
        what = draw.random()
        if what < 0.35:
            store.store(step, kind="semantic", trace_id=mine, tags=["own"])
            self.own[mine] = step
        elif what < 0.5:
            assert store.delete(mine) == (self.own.pop(mine, None) is not None)
            self.reinforced.pop(mine, None)
        elif what < 0.65:
            done = store.reinforce(mine)
            assert bool(done) == (mine in self.own)
            self.reinforced[mine] += bool(done)
        elif what < 0.75:
            store.store(step, kind="trust", trace_id=shared)
            store.reinforce(shared)
            if draw.random() < 0.3:
                store.delete(shared)
        elif what < 0.85:
            store.record_coactivation(shared, mine)
        elif what < 0.95:
            entry = store.get(mine)
            payload = None if entry is None else entry.payload
            assert payload == self.own.get(mine)
        else:
            store.flush()


def stress(stores: Stores, *, seed: int, steps: int, seconds: int = 0) -> None:
    store = stores(max_dirty_entries=200)
    until = monotonic_ns() + seconds * 1_000_000_000
    workers = [Worker(store, number, seed, steps, until) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.error for worker in workers] == [None] * THREADS
    expected = {i: payload for worker in workers for i, payload in worker.own.items()}
    assert {e.trace_id: e.payload for e in store.by_tag("own")} == expected
    for worker in workers:
        for trace_id, count in worker.reinforced.items():
            entry = store.get(trace_id)
            assert (0 if entry is None else entry.reinforcement_count) == count
    before = {entry.trace_id: entry for entry in store.all()}
    assert store.count() == len(before)
    store.flush()
    assert store.dirty == 0
    assert {entry.trace_id: entry for entry in store.all()} == before
    again = stores()
    assert {entry.trace_id: entry for entry in again.all()} == before
    assert again.count() == store.count() == len(before)
    for entry in before.values():
        for other in entry.associated:
            assert entry.trace_id in before[other].associated


@pytest.mark.parametrize("seed", range(3))
def test_threads_agree_at_the_end(stores: Stores, seed: int) -> None:
    stress(stores, seed=seed, steps=300)


@pytest.mark.soak
def test_threads_agree_after_a_minute(stores: Stores) -> None:
    stress(stores, seed=7, steps=1, seconds=60)


def test_threads_that_open_and_close_stores(stores: Stores) -> None:
    """Each has a store of its own, as processes have."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                store = stores()
                store.store(i, kind="semantic", trace_id=f"{number}/{i}")
                store.close()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stores().count() == 20 * THREADS
