"""Spans as a web service would make them, as batches for a sink: for sizes and folding."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from afterglow.ledger import new_ledger
from afterglow.model.run import Process
from afterglow.ports import SpanBatch

START_NS = 1_700_000_000_000_000_000
BATCH = 2_048

# name, median duration in us, spread
WORK = [
    ("authenticate", 180, 0.6),
    ("SELECT orders", 900, 0.9),
    ("SELECT customer", 700, 0.9),
    ("render", 2_300, 0.5),
    ("cache get", 60, 0.7),
    ("serialize", 340, 0.4),
]


def batches(spans: int, *, attributes: bool, seed: int = 1) -> Iterator[SpanBatch]:
    """Requests of one root and six children each, times and ids as the recorder has them."""
    chance = random.Random(seed)
    flat: list[Any] = []
    span_id, now, made = chance.getrandbits(62), 10**12, 0
    where = (4711, "MainThread")
    while made < spans:
        root, begun = span_id + 1, now
        span_id += 1
        for name, median_us, spread in WORK:
            span_id += 1
            took = int(1_000 * median_us * math.exp(spread * chance.gauss(0, 1)))
            given = _attributes(chance, name) if attributes else {}
            flat += (root, span_id, root, name, now, now + took, given, where, None)
            now += took + chance.randrange(2_000, 30_000)
        given = _attributes(chance, "request") if attributes else {}
        flat += (root, root, 0, "GET /orders", begun, now, given, where, None)
        now += chance.randrange(50_000, 5_000_000)
        made += 7
        if len(flat) >= BATCH * 9:
            yield _batch(flat[: BATCH * 9])
            flat = flat[BATCH * 9 :]
    if flat:
        yield _batch(flat, last=True)


def _attributes(chance: random.Random, name: str) -> dict[str, Any]:
    return {
        "user": chance.randrange(50_000),
        "route": chance.choice(("/orders", "/orders/{id}", "/customers/{id}")),
        "cached": name == "cache get" and chance.random() < 0.8,
    }


def _batch(flat: list[Any], *, last: bool = False) -> SpanBatch:
    process = Process(
        run_id="b" * 32, pid=1, parent_pid=0, argv=("service",), host="host", start_ns=START_NS
    )
    return SpanBatch(flat, [], process, 1 << 62, START_NS, new_ledger(), {}, last)
