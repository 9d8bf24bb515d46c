"""1,000 tasks that end their spans in one turn of the loop: the gap they leave in it."""

from __future__ import annotations

from benchmarks.caller import in_us
from benchmarks.harness import available, children, interleaved
from benchmarks.scale import Scale
from benchmarks.table import Check, Row, low

SUBJECTS = ["control", "floor", "afterglow", "otel", "otel-file", "ferret"]


def measure(scale: Scale) -> list[Row]:
    with children(available(SUBJECTS)) as running:
        values = in_us(interleaved(running, max(4, scale.repetitions // 8), "gap", n=1_000))
    ours, floor = low(values["afterglow"]), low(values["floor"])
    # The control does what a span must do and writes nothing; a thousand spans of <= 1.3 x its
    # cost, and half a millisecond of noise, are no gap beyond it.
    check = Check(
        "1,000 tasks end in one turn: gap no longer than 1.3 x the floor's + 500 us",
        f"{ours:.0f} us to {floor:.0f} us",
        ours <= 1.3 * floor + 500,
    )
    return [Row("gap in the loop, 1,000 tasks ending at once", "us", values, [check])]
