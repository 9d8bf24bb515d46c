"""What retention costs: looking at new traces and forgetting old ones, beside folding them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

from afterglow.config import RetentionConfig
from afterglow.keep.retention import Retention
from afterglow.store.fold import fold
from afterglow.testing import ManualClock
from benchmarks.harness import Sample
from benchmarks.journal import write
from benchmarks.rows import START_NS
from benchmarks.scale import Scale
from benchmarks.table import Row, at_most

#: Of `benchmarks/rows.py`: a root and six children.
_SPANS_A_TRACE = 7
_DAY_S = 86_400


def measure(scale: Scale) -> list[Row]:
    """Seven spans a trace, all of one name; what a pass takes beside folding the same spans."""
    folding: list[float] = []
    looking: list[float] = []
    fading: list[float] = []
    idle: list[float] = []
    size: list[float] = []
    for _ in range(scale.rounds):
        with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as directory:
            database = Path(directory) / "retention.db"
            spans = write(database, scale.disk_spans, attributes=True)
            folding.append(spans / _timed(lambda path=database: fold(path)))
            plain_bytes = database.stat().st_size
            clock = ManualClock(START_NS + 3_600 * 10**9)
            with Retention(database, RetentionConfig(), clock=clock) as retention:
                looking.append(spans / _timed(retention.step))
                idle.append(1e3 * _timed(lambda r=retention: r.step(mend=False)))
                size.append((database.stat().st_size - plain_bytes) / (spans / _SPANS_A_TRACE))
                clock.advance_s(60 * _DAY_S)
                fading.append(spans / _timed(retention.step))
    slowdown = max(folding) / max(looking)
    return [
        Row("folding, without retention", "spans/s", {"afterglow": Sample.of(folding)}),
        Row(
            "a first pass over what was folded",
            "spans/s",
            {"afterglow": Sample.of(looking)},
            [at_most("a look, of the time of the fold", slowdown, 2.0, " times")],
        ),
        Row("forgetting all of it", "spans/s", {"afterglow": Sample.of(fading)}),
        Row("a pass with nothing to do", "ms", {"afterglow": Sample.of(idle)}),
        Row("what retention keeps of a trace", "bytes", {"afterglow": Sample.of(size)}),
    ]


def _timed(do: object) -> float:
    assert callable(do)
    before = perf_counter()
    do()
    return perf_counter() - before
