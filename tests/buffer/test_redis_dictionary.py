"""Small blobs squeezed with a trained dictionary: it is wherever entries are that need it."""

from __future__ import annotations

import os

from afterglow.buffer import RedisBuffer
from afterglow.model.segment import BufferedSpan
from benchmarks.buffer.workloads import workloads
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.buffer.stream import LATER_NS, NOW_NS, Delivery, check_keys, open_buffer

TRAINING = b"span-buf:ctl:{ctl}:dictionary"


def like_otlp(n_spans: int, seed: int) -> list[list[BufferedSpan]]:
    """Batches of 100 of the workload of small shuffled traces."""
    return list(workloads(n_spans, seed=seed)[1].batches(100))


def opened(url: str) -> RedisBuffer:
    return open_buffer(url, inline_bytes=32_768, inline_entries=128)


def used(buffer: RedisBuffer) -> int:
    return buffer._parts.adder._squeezer.current


def test_workers_share_one_and_flushers_find_it(redis_cluster: RedisCluster) -> None:
    first, second, flusher = (opened(redis_cluster.url) for _ in range(3))
    given = like_otlp(3_000, 1)
    for batch in given[:25]:
        assert first.add(batch, NOW_NS).refused == 0
    assert used(first)
    for batch in given[25:]:
        assert second.add(batch, NOW_NS).refused == 0
    assert used(second) == used(first)
    check_keys(redis_cluster.masters(), left=True)
    delivery = Delivery(given)
    delivery.flush(flusher)
    delivery.check(flusher, redis_cluster.masters())
    for buffer in (first, second, flusher):
        buffer.close()


def test_a_redis_that_was_emptied_gets_it_again(redis_cluster: RedisCluster) -> None:
    worker, flusher = opened(redis_cluster.url), opened(redis_cluster.url)
    for batch in like_otlp(2_500, 2):
        worker.add(batch, NOW_NS)
    assert used(worker)
    redis_cluster.flush_all()
    given = like_otlp(500, 3)
    for batch in given:
        assert worker.add(batch, NOW_NS).refused == 0
    delivery = Delivery(given)
    delivery.flush(flusher)
    delivery.check(flusher, redis_cluster.masters())
    worker.close()
    flusher.close()


def test_what_cannot_be_read_any_more_is_counted(redis_single: SingleRedis) -> None:
    worker, flusher = opened(redis_single.url), opened(redis_single.url)
    given = like_otlp(3_000, 4)
    for batch in given:
        worker.add(batch, NOW_NS)
    for key in redis_single.keys("span-buf:zd:*"):
        redis_single.ask("DEL", key)
    came = 0
    for page in flusher.take_due(LATER_NS, owner="a"):
        came += sum(len(part.span_ids) for part in page)
        flusher.acknowledge(page)
    books = flusher.ledger()
    assert books.balanced
    assert (books.held, books.delivered) == (0, came)
    assert books.dropped["shop"]["expired"] == 3_000 - came > 0
    worker.close()
    flusher.close()


def test_none_is_kept_that_saves_nothing(redis_single: SingleRedis) -> None:
    worker = opened(redis_single.url)
    for batch in like_otlp(2_500, 5):
        worker.add([span._replace(payload=os.urandom(200)) for span in batch], NOW_NS)
    assert used(worker) == 0
    assert not redis_single.keys(TRAINING.decode())
    worker.close()
