"""What a span costs in each stage of the collector, one after the other in one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from afterglow.buffer.memory import MemoryBuffer
from afterglow.buffering import open_journaled
from afterglow.config import BufferConfig, OtlpConfig
from afterglow.model.segment import BufferedSpan, SegmentPart
from afterglow.otlp.payload import read_payloads, to_request
from afterglow.otlp.request import OtlpRules, read_request
from afterglow.ports import SegmentBuffer
from afterglow.sink.store import StoreSink
from benchmarks.collect.load import Shape, bodies

T = TypeVar("T")

_AT_NS = 1_800_000_000_000_000_000
_LATER_NS = _AT_NS + 3_600_000_000_000


@dataclass
class Stage:
    """CPU of the process, in microseconds a span."""

    name: str
    cpu_us: float


def stages(shape: Shape) -> list[Stage]:
    found: list[Stage] = []

    def timed(name: str, do: Callable[[], T]) -> T:
        began = time.process_time_ns()
        result = do()
        found.append(Stage(name, (time.process_time_ns() - began) / 1e3 / shape.spans))
        return result

    requests = list(bodies(shape, started_ns=_AT_NS))
    rules = OtlpRules.of(OtlpConfig())
    batches = timed(
        "read a request: decode, limit, scrub, cut into spans",
        lambda: [
            read_request(body, json=False, project="default", rules=rules).spans
            for body in requests
        ],
    )
    config = BufferConfig(max_held_bytes=4 << 30)
    memory = MemoryBuffer(config)
    timed("add to the buffer in memory", lambda: _add(memory, batches))
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder:
        journaled = open_journaled(config, Path(folder) / "intake")
        timed("add to the journaled buffer", lambda: _add(journaled, batches))
        pages = timed("take what is due", lambda: _take(journaled))
        parts = [part for page in pages for part in page]
        payloads = [payload for part in parts for payload in part.payloads]
        timed("decode for the store", lambda: read_payloads(payloads))
        timed("splice for OTLP out", lambda: [_spliced(page) for page in pages])
        sink = StoreSink(Path(folder) / "afterglow.db")
        timed("into the store, new to it", lambda: _write(sink, pages))
        timed("into the store, there already", lambda: _write(sink, pages))
        sink.close()
        timed("acknowledge", lambda: [journaled.acknowledge(page) for page in pages])
        journaled.close()
    return found


def _add(buffer: SegmentBuffer, batches: list[list[BufferedSpan]]) -> None:
    for batch in batches:
        if buffer.add(batch, _AT_NS).refused:
            raise SystemExit("the buffer refused: it is too small for so many spans")


def _take(buffer: SegmentBuffer) -> list[list[SegmentPart]]:
    return list(buffer.take_due(_LATER_NS, owner="bench", max_segments=1 << 40, max_bytes=4 << 20))


def _spliced(page: list[SegmentPart]) -> int:
    return len(to_request(payload for part in page for payload in part.payloads))


def _write(sink: StoreSink, pages: list[list[SegmentPart]]) -> None:
    for page in pages:
        sink.write(page)
