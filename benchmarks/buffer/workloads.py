"""Seeded workloads for span buffers: the traces, their order, and payloads like OTLP spans.

    for workload in workloads(100_000):
        for batch in workload.batches(1_000): ...

Payloads are made as batches are asked for (outside of what is timed), so that a trace of a million
spans needs no gigabyte. The same seed gives the same spans, whatever the size of the batches.

`shuffled` mixes the spans of a window of 5,500: about 275 traces of 20 spans are open at a time,
and a batch of 1,000 brings 3.7 spans of a trace. `window=None` mixes all there are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from afterglow.model.segment import BufferedSpan

__all__ = ["WINDOW", "Workload", "payload", "workloads"]

WINDOW = 5_500
PROJECT = "shop"

#: Trace id, span id, parent (None: a root).
Edge = tuple[bytes, bytes, bytes | None]

_SERVICES = ["checkout", "cart", "payment", "catalogue", "shipping", "mail"]
_NAMES = ["GET /cart/{id}", "POST /orders", "SELECT orders", "render basket", "charge card", "HGET"]
_STATEMENT = "SELECT id, state, total_cents FROM orders WHERE customer_id = $1 LIMIT 50"
_FRAME = 'File "/app/shop/orders.py", line %d, in place_order\n'


@dataclass(frozen=True)
class Workload:
    """A name, and how to make its spans in order of arrival."""

    name: str
    n_spans: int
    edges: Callable[[], Iterator[Edge]]
    seed: int

    def spans(self) -> Iterator[BufferedSpan]:
        """The spans in order of arrival."""
        rng = random.Random(self.seed)
        for trace_id, span_id, parent in self.edges():
            made = payload(rng, trace_id, span_id, parent)
            yield BufferedSpan(PROJECT, trace_id, span_id, parent, False, made)

    def batches(self, size: int) -> Iterator[list[BufferedSpan]]:
        """The same in batches; the last may be smaller."""
        batch = []
        for span in self.spans():
            batch.append(span)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def workloads(n_spans: int = 100_000, seed: int = 4, window: int | None = WINDOW) -> list[Workload]:
    """The workloads of the design's table, of about so many spans each."""

    def made(name: str, edges: Callable[..., Iterator[Edge]], **how: object) -> Workload:
        return Workload(name, n_spans, partial(edges, n_spans, random_of(seed), **how), seed)

    return [
        made("20-span traces, contiguous", _trees, size=20),
        made("20-span traces, shuffled", _shuffled, size=20, window=window),
        made("500-span traces, shuffled", _shuffled, size=500, window=window),
        made("one trace, shuffled", _shuffled, size=n_spans, window=None),
        made("chains 1,000 deep, leaves first", _chains, depth=1_000),
    ]


def random_of(seed: int) -> Callable[[], random.Random]:
    """So that a workload can be made more than once."""
    return lambda: random.Random(seed)


def _trees(n_spans: int, rng_of: Callable[[], random.Random], size: int) -> Iterator[Edge]:
    """One trace behind the other, parents first; a parent is one of those before."""
    rng = rng_of()
    for begin in range(0, n_spans, size):
        trace_id = rng.randbytes(16)
        ids: list[bytes] = []
        for i in range(min(size, n_spans - begin)):
            parent = ids[int(i * rng.random())] if ids else None
            ids.append(rng.randbytes(8))
            yield trace_id, ids[-1], parent


def _shuffled(
    n_spans: int, rng_of: Callable[[], random.Random], size: int, window: int | None
) -> Iterator[Edge]:
    edges = list(_trees(n_spans, rng_of, size))
    rng = rng_of()
    window = window or len(edges)
    for begin in range(0, len(edges), window):
        part = edges[begin : begin + window]
        rng.shuffle(part)
        yield from part


def _chains(n_spans: int, rng_of: Callable[[], random.Random], depth: int) -> Iterator[Edge]:
    """Chains from their leaves up to their roots, one behind the other."""
    rng = rng_of()
    for begin in range(0, n_spans, depth):
        trace_id = rng.randbytes(16)
        ids = [rng.randbytes(8) for _ in range(min(depth, n_spans - begin))]
        for above, span_id in enumerate(reversed(ids), 2):
            yield trace_id, span_id, ids[-above] if above <= len(ids) else None


def payload(rng: random.Random, trace_id: bytes, span_id: bytes, parent: bytes | None) -> bytes:
    """About 1 KB in the form of an OTLP span; zstd level 1 makes 140 to 290 bytes of it.

    290 where 4 go together, 170 where 20 do, 140 in hundreds: as the figures of the design do.
    """
    kind = rng.randrange(6)
    start_ns = 1_700_000_000_000_000_000 + rng.randrange(10**12)
    order = rng.randrange(10**6)
    attributes = (
        ("service.name", _SERVICES[kind]),
        ("server.address", f"{_SERVICES[kind]}-{rng.randrange(8)}.internal"),
        ("http.request.method", "POST" if kind % 2 else "GET"),
        ("http.request.path", f"/api/v2/orders/{order}"),
        ("http.request.id", f"{rng.getrandbits(128):032x}"),
        ("http.request.session", f"{rng.getrandbits(128):032x}"),
        ("http.request.key", f"{rng.getrandbits(128):032x}"),
        ("http.response.status_code", "200" if rng.random() < 0.95 else "503"),
        ("client.address", f"10.{kind}.{rng.randrange(256)}.{rng.randrange(256)}"),
        ("enduser.id", f"{rng.getrandbits(64):016x}"),
        ("db.query.text", _STATEMENT),
        ("code.stacktrace", "".join([_FRAME % rng.randrange(100, 140) for _ in range(7)])),
    )
    fields = [
        _bytes_field(1, trace_id),
        _bytes_field(2, span_id),
        _bytes_field(4, parent or b""),
        _bytes_field(5, _NAMES[kind].encode()),
        b"\x30\x02",
        b"\x39" + start_ns.to_bytes(8, "little"),
        b"\x41" + (start_ns + rng.randrange(10**8)).to_bytes(8, "little"),
    ]
    for key, value in attributes:
        text = _bytes_field(1, value.encode())
        fields.append(_bytes_field(9, _bytes_field(1, key.encode()) + _bytes_field(2, text)))
    return b"".join(fields)


def _bytes_field(number: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes((number << 3 | 2, length)) + content
    return bytes((number << 3 | 2, length & 127 | 128, length >> 7)) + content
