"""What one span costs its caller: every shape, every subject, interleaved."""

from __future__ import annotations

import sys

from benchmarks.harness import Sample, available, children, interleaved
from benchmarks.scale import Scale
from benchmarks.table import Check, Row, Value, at_least, at_most, low

SUBJECTS = ["floor", "afterglow", "otel", "otel-file", "ferret"]
SHAPES = {
    "plain": "caller: with, no attributes",
    "attributes": "caller: with, 3 attributes",
    "nested": "caller: four nested, each",
    "decorator": "caller: decorated function",
    "started": "caller: start_span + end",
}


def in_us(samples: dict[str, Sample | None]) -> dict[str, Value]:
    return {
        name: None if s is None else Sample(s.low / 1e3, s.median / 1e3)
        for name, s in samples.items()
    }


def measure(scale: Scale) -> list[Row]:
    rows = []
    with children(available(SUBJECTS)) as running:
        for shape, case in SHAPES.items():
            values = in_us(interleaved(running, scale.repetitions, "loop", shape=shape))
            rows.append(Row(case, "us", values, targets(shape, values)))
        values = in_us(interleaved(running, scale.repetitions // 4, "threads", n=800))
        rows.append(Row("caller: 8 threads", "us", values))
        for child in running.values():
            child.ask("settle")
        losses = {name: child.ask("close")["lost"] for name, child in running.items()}
    rows.append(Row("caller: spans lost in all of these", "spans", dict(losses)))
    with children(available(["control", *SUBJECTS])) as running:
        values = in_us(interleaved(running, scale.repetitions // 8, "tasks", n=1_000))
    rows.append(Row("1,000 tasks of one span, each", "us", values))
    return rows


def targets(shape: str, values: dict[str, Value]) -> list[Check]:
    if shape not in ("plain", "attributes"):
        return []
    ours, floor = low(values["afterglow"]), low(values["floor"])
    limit = {"plain": 1.0, "attributes": 1.1}[shape]
    found = [
        at_most(f"caller, {shape}", ours, limit, " us"),
        at_most(f"caller, {shape}, against the floor", ours / floor, 1.3, " x"),
    ]
    if "otel" in values:
        times = 15 if sys.version_info < (3, 13) else 12
        ratio = low(values["otel"]) / ours
        found.append(at_least(f"caller, {shape}, under the OpenTelemetry SDK", ratio, times, " x"))
    return found
