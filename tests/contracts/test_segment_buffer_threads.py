"""Many add, many take, some die: each span arrives, and once by message id; the books balance."""

from __future__ import annotations

import random
import threading
from typing import Any

from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan, SegmentPart
from tests.contracts.segment_backends import Backend

S = 10**9
T0 = 1_700_000_000 * S
CONFIG = BufferConfig(max_segment_bytes=1024, lease_s=30, tombstone_s=86_400)
N_TRACES, N_SPANS, N_THREADS = 40, 25, 3


def forest() -> list[BufferedSpan]:
    rng = random.Random(7)
    found = []
    for trace in range(1, N_TRACES + 1):
        ids = [rng.randbytes(8) for _ in range(N_SPANS)]
        for i, span_id in enumerate(ids):
            parent = ids[rng.randrange(i)] if i else None
            trace_id = trace.to_bytes(16, "big")
            found.append(BufferedSpan("shop", trace_id, span_id, parent, False, bytes(90)))
    rng.shuffle(found)
    return found


def test_threads_that_add_take_and_die(backend: Backend) -> None:
    buffer = backend.new(CONFIG)
    spans = forest()
    arrived: list[SegmentPart] = []
    failures: list[BaseException] = []
    adding = threading.Event()
    adding.set()

    def guarded(work: Any, *args: Any) -> None:
        mine = backend.another(buffer)
        try:
            work(mine, *args)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            if mine is not buffer:
                mine.close()

    def add(mine: Any, number: int) -> None:
        for begin in range(0, len(spans), 50):
            if begin // 50 % N_THREADS in (number, (number + 1) % N_THREADS):
                result = mine.add(spans[begin : begin + 50], T0)
                assert result.accepted == 50

    def take(mine: Any, number: int) -> None:
        rng = random.Random(number)
        now_ns = T0 + 1_000 * S
        while adding.is_set():
            for page in mine.take_due(now_ns, owner=f"taker {number}", max_bytes=4_000):
                fate = rng.random()
                if fate < 0.2:
                    mine.release(page)
                elif fate < 0.8:
                    arrived.extend(part for part in page if mine.acknowledge([part]))
            now_ns = min(now_ns + 20 * S, T0 + 40_000 * S)

    adders = [threading.Thread(target=guarded, args=(add, n)) for n in range(N_THREADS)]
    takers = [threading.Thread(target=guarded, args=(take, n)) for n in range(N_THREADS)]
    for thread in [*takers, *adders]:
        thread.start()
    for thread in adders:
        thread.join()
    adding.clear()
    for thread in takers:
        thread.join()
    assert failures == []
    for later in range(100):
        pages = buffer.take_due(T0 + (50_000 + 100 * later) * S, owner="last")
        parts = [part for page in pages for part in page]
        arrived += [part for part in parts if buffer.acknowledge([part])]
        if not parts:
            break
    by_id = {part.message_id: part for part in arrived}
    found = [(part.trace_id, one) for part in by_id.values() for one in part.span_ids]
    assert len(found) == len(set(found)), "a span went out under two message ids"
    assert set(found) == {(one.trace_id, one.span_id) for one in spans}
    books = buffer.ledger()
    assert books.balanced
    assert (books.held, books.delivered) == (0, len(spans))
    assert books.dropped == {"shop": {"duplicate": len(spans)}}
    buffer.close()
