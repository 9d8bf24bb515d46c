"""Faults at random while workers and flushers run, and the giant trace; long versions are soaks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

import pytest

from afterglow.buffer import RedisBuffer
from afterglow.errors import SpanBufferError
from afterglow.model.segment import BufferedSpan
from benchmarks.buffer.workloads import workloads
from scripts.redis_cluster import RedisCluster
from scripts.redis_server import RedisNode
from tests.buffer.stream import LATER_NS, NOW_NS, Delivery, batches, open_buffer

S = 10**9


class Storm:
    """A worker and two flushers in threads, until all is added; every part is kept."""

    def __init__(self, url: str, given: Sequence[Sequence[BufferedSpan]]) -> None:
        # Opened while all is well: a server that is away then is an error, not a fault to ride out.
        self.buffers = [open_buffer(url, redis_timeout_s=2.0) for _ in range(3)]
        self.given = given
        self.delivery = Delivery(given)
        self.added = threading.Event()
        self.troubles: list[BaseException] = []
        self._writing = threading.Lock()
        self.threads = [
            threading.Thread(target=self._guarded, args=(what, buffer))
            for what, buffer in zip(
                (self._work, self._flush, self._flush), self.buffers, strict=True
            )
        ]

    def _guarded(self, what: Callable[[RedisBuffer], None], buffer: RedisBuffer) -> None:
        try:
            what(buffer)
            buffer.close()
        except BaseException as error:
            self.troubles.append(error)
            self.added.set()
            raise

    def _work(self, buffer: RedisBuffer) -> None:
        for batch in self.given:
            while buffer.add(batch, NOW_NS).refused and not self.troubles:
                pass
        self.added.set()

    def _flush(self, buffer: RedisBuffer) -> None:
        owner = threading.current_thread().name
        while not self.added.is_set():
            try:
                for page in buffer.take_due(LATER_NS, owner=owner, max_bytes=50_000):
                    with self._writing:
                        self.delivery.write(page)
                    buffer.acknowledge(page)
            except SpanBufferError:
                continue  # a flusher tries again


def rage(cluster: RedisCluster, storm: Storm, rng: random.Random, faults: int) -> None:
    for _ in range(faults):
        master = rng.choice(cluster.masters())
        match rng.randrange(5):
            case 0:
                dead = cluster.kill(master)
                cluster.wait_promoted(dead)
                cluster.restart(dead)
                cluster.wait_until_ok()
            case 1:
                cluster.script_flush()
            case 2:
                master.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            case 3:
                master.ask("CLIENT", "PAUSE", 50, "ALL")
            case 4:
                other = next(node for node in cluster.masters() if node is not master)
                cluster.move_slots(rng.sample(sorted(master.slots()), 200), master, other)
        assert not storm.troubles


@pytest.mark.parametrize(
    "seed, faults",
    [(1, 4), *(pytest.param(seed, 40, marks=pytest.mark.soak) for seed in range(2, 7))],
)
def test_a_storm(redis_cluster: RedisCluster, seed: int, faults: int) -> None:
    storm = Storm(redis_cluster.url, batches(seed, n_traces=30 * faults))
    for thread in storm.threads:
        thread.start()
    try:
        rage(redis_cluster, storm, random.Random(seed), faults)
    finally:
        for thread in storm.threads:
            thread.join()
    assert not storm.troubles
    redis_cluster.wait_until_ok()
    last = open_buffer(redis_cluster.url)
    for later in range(1, 4):
        storm.delivery.flush(last, LATER_NS + later * 100 * S, "last")
    storm.delivery.check(last, redis_cluster.masters(), roots=False)
    last.close()


def assert_even(before: Sequence[int], after: Sequence[int]) -> None:
    """No node carried more than 45 % of what all did."""
    carried = [late - early for early, late in zip(before, after, strict=True)]
    assert max(carried) <= 0.45 * sum(carried), carried


def key_bytes(node: RedisNode) -> int:
    """What its keys take: a server's own figure moves with what it frees in the background."""
    keys = node.keys()
    return sum(node.ask_all(("MEMORY", "USAGE", key) for key in keys))


@pytest.mark.parametrize("n_spans", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_giant_trace_is_spread_over_all_masters(
    redis_cluster: RedisCluster, n_spans: int
) -> None:
    giant = workloads(n_spans)[3]
    buffer = RedisBuffer.from_url(redis_cluster.url)
    masters = redis_cluster.masters()
    begun = [node.carried_bytes() for node in masters]
    for batch in giant.batches(1_000):
        assert buffer.add(batch, NOW_NS).refused == 0
    used = [key_bytes(node) for node in masters]
    assert max(used) <= 0.45 * sum(used)
    assert sum(used) <= 350 * n_spans
    assert_even(begun, added := [node.carried_bytes() for node in masters])
    came = parts = 0
    for page in buffer.take_due(LATER_NS, owner="a"):
        came += sum(len(part.span_ids) for part in page)
        parts += len(page)
        assert buffer.acknowledge(page) == len(page)
    assert_even(added, [node.carried_bytes() for node in masters])
    books = buffer.ledger()
    assert (came, books.delivered, books.held) == (n_spans, n_spans, 0)
    assert books.balanced
    assert parts >= n_spans * 900 // (10 << 20)
    buffer.close()
