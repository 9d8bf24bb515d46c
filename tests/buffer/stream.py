"""Spans on their way through a RedisBuffer, and what must hold at the end of every fault."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from afterglow.buffer import RedisBuffer
from afterglow.buffer.keys import Keys
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan, SegmentPart

__all__ = ["CONFIG", "LATER_NS", "NOW_NS", "Delivery", "batches", "open_buffer", "trace"]

S = 10**9
NOW_NS = 1_700_000_000 * S
#: When all that was added at NOW_NS is due, and leases taken before are over.
LATER_NS = NOW_NS + 700 * S

#: Small limits, so that few spans make inline entries, chunks and parts.
CONFIG = BufferConfig(
    redis_timeout_s=10.0, inline_bytes=4_000, inline_entries=4, chunk_bytes=8_000, lease_s=30.0
)


def open_buffer(url: str, **changes: Any) -> RedisBuffer:
    return RedisBuffer.from_url(url, msgspec.structs.replace(CONFIG, **changes))


def trace(
    rng: random.Random, n_spans: int, payload_bytes: int = 300, project: str = "shop"
) -> list[BufferedSpan]:
    """A tree of random shape, parents first."""
    trace_id = rng.randbytes(16)
    ids = [rng.randbytes(8) for _ in range(n_spans)]
    return [
        BufferedSpan(
            project,
            trace_id,
            span_id,
            ids[rng.randrange(at)] if at else None,
            False,
            span_id + b"x" * payload_bytes,
        )
        for at, span_id in enumerate(ids)
    ]


def batches(seed: int, n_traces: int = 12, size: int = 60) -> list[list[BufferedSpan]]:
    """Small traces and large ones, shuffled together."""
    rng = random.Random(seed)
    spans = [
        span for number in range(n_traces) for span in trace(rng, 120 if number % 4 == 0 else 9)
    ]
    rng.shuffle(spans)
    return [spans[at : at + size] for at in range(0, len(spans), size)]


class Delivery:
    """What a sink has: one of each message id. It knows what it should have in the end."""

    def __init__(self, added: Iterable[Sequence[BufferedSpan]]) -> None:
        self.spans = {
            (span.project, span.trace_id, span.span_id): span for batch in added for span in batch
        }
        self.parts: dict[str, SegmentPart] = {}

    def write(self, page: Sequence[SegmentPart]) -> None:
        for part in page:
            known = self.parts.setdefault(part.message_id, part)
            assert known.span_ids == part.span_ids
            assert known.payloads == part.payloads

    def flush(self, buffer: RedisBuffer, now_ns: int = LATER_NS, owner: str = "flusher") -> int:
        """Take, write and acknowledge until no more comes; returns how many parts were ours."""
        ours = 0
        while pages := list(self._pages(buffer, now_ns, owner)):
            ours += sum(pages)
        return ours

    def _pages(self, buffer: RedisBuffer, now_ns: int, owner: str) -> Iterator[int]:
        for page in buffer.take_due(now_ns, owner=owner, max_bytes=100_000):
            self.write(page)
            yield buffer.acknowledge(page)

    def check(self, buffer: RedisBuffer, nodes: Iterable[Any], roots: bool = True) -> None:
        """Each span once, with the root of its trace; books balanced; no key left over."""
        times: Counter[tuple[str, bytes, bytes]] = Counter()
        for part in self.parts.values():
            for span_id, payload in zip(part.span_ids, part.payloads, strict=True):
                key = (part.project, part.trace_id, span_id)
                assert payload == self.spans[key].payload
                times[key] += 1
        lost = [key for key in self.spans if key not in times]
        doubled = [key for key, n in times.items() if n > 1]
        assert (len(lost), len(doubled)) == (0, 0), f"{buffer.ledger()}"
        if roots:
            tops = {
                (s.project, s.trace_id): s.span_id
                for s in self.spans.values()
                if s.parent_span_id is None
            }
            for part in self.parts.values():
                assert part.root_span_id == tops[part.project, part.trace_id]
        books = buffer.ledger()
        assert books.balanced, books
        assert books.held == 0, books
        assert books.delivered == len(self.spans), books
        assert {why for by in books.dropped.values() for why, n in by.items() if n} <= {"duplicate"}
        check_keys(nodes)


def check_keys(nodes: Iterable[Any], left: bool = False) -> None:
    """Every key of ours has a TTL but control keys; and nothing but tombstones is left."""
    for node in nodes:
        for key in node.keys("span-buf:*"):
            kind = key.split(b":")[1]
            control = kind == b"ctl"
            assert control or node.ask("TTL", key) > 0, key
            assert left or control or kind in (b"ssr", b"ssm", b"zd"), f"{key!r} is left"


def bucket_slots(keys: Keys | None = None) -> list[bytes]:
    """A key in the slot of each index bucket."""
    return list((keys or Keys("span-buf")).queue)
