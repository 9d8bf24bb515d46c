"""What a span costs the whole process until it is durable, the writer's work included."""

from __future__ import annotations

from benchmarks.harness import Sample, available, children
from benchmarks.scale import Scale
from benchmarks.table import Row, Value, at_most, low

SUBJECTS = ["floor", "afterglow", "otel", "otel-file", "ferret"]
LIMITS = {"plain": 1.4, "attributes": 1.8}
#: Slow peers get fewer spans: the cost of one is what counts.
SHARE = {"floor": 1.0, "afterglow": 1.0, "otel": 0.1, "otel-file": 0.1, "ferret": 0.0025}


def measure(scale: Scale) -> list[Row]:
    rows = []
    for shape, limit in LIMITS.items():
        seen: dict[str, list[float]] = {name: [] for name in available(SUBJECTS)}
        lost: dict[str, int | None] = dict.fromkeys(seen)
        for _ in range(scale.rounds):
            for name, values in seen.items():
                n = max(100, int(scale.cpu_spans * SHARE[name]))
                with children([name]) as running:
                    running[name].ask("loop", shape=shape, n=100)
                    running[name].ask("settle")
                    answer = running[name].ask("cpu", shape=shape, n=n)
                values.append(answer["ns"] / 1e3)
                lost[name] = answer["lost"]
        samples: dict[str, Value] = {name: Sample.of(values) for name, values in seen.items()}
        checks = [at_most(f"process CPU until durable, {shape}", low(samples["afterglow"]),
                          limit, " us")]  # fmt: skip
        rows.append(Row(f"process CPU until durable, {shape}", "us", samples, checks))
        rows.append(Row("  spans lost", "spans", dict(lost)))
    return rows
