"""The distribution of single calls, and what recording does to a busy main thread."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.harness import available, children
from benchmarks.scale import Scale
from benchmarks.table import Check, Row, at_least, at_most

SUBJECTS = ["control", "floor", "afterglow", "otel", "otel-file", "ferret"]
RATES = (10_000, 50_000)
#: Spans a second beside a busy main thread; the first that is not reached without loss ends it.
LADDER = (50_000, 100_000, 200_000, 300_000, 400_000)


def measure(scale: Scale) -> list[Row]:
    return [*back_to_back(scale), *beside_a_busy_thread(scale), sustained(scale)]


def back_to_back(scale: Scale) -> list[Row]:
    found: dict[str, dict[str, float]] = {}
    with children(available(SUBJECTS)) as running:
        for name, child in running.items():
            n = scale.calls // (100 if name == "ferret" else 1)
            child.ask("calls", n=n // 10)
            found[name] = child.ask("calls", n=n)
    return percentile_rows("one call, back to back", found)


def percentile_rows(case: str, found: dict[str, dict[str, float]]) -> list[Row]:
    names = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}
    return [
        Row(f"{case}: {shown}", "us", {name: f[key] / 1e3 for name, f in found.items()})
        for key, shown in names.items()
    ]


def beside_a_busy_thread(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for rate in RATES:
        seen: dict[str, list[dict[str, Any]]] = {}
        lost: dict[str, int | None] = {}
        with children(available(SUBJECTS)) as running:
            for child in running.values():
                child.ask("busy", rate=rate, seconds=0.2)
            # The control's turns come between the others', so that both meet the same noise.
            for _ in range(max(1, scale.rounds)):
                for name, child in running.items():
                    seen.setdefault(name, []).append(
                        child.ask("busy", rate=rate, seconds=scale.busy_s)
                    )
            for name, child in running.items():
                lost[name] = child.ask("close")["lost"]
        middle = {
            name: {key: statistics.median(a[key] for a in answers) for key in answers[0]}
            for name, answers in seen.items()
        }
        case = f"{rate:,} spans/s, main thread busy"
        rows += percentile_rows(case, middle)
        if rate == RATES[-1]:
            p999 = middle["afterglow"]["p999"] / 1e3
            rows[-2].checks.append(at_most(f"p99.9 of a call at {rate:,} spans/s", p999, 50, " us"))
        gaps = {name: sum(a["gaps"] for a in answers) for name, answers in seen.items()}
        excess = gaps["afterglow"] - gaps["floor"]
        rows.append(
            Row(f"{case}: gaps > 2 ms", "gaps", dict(gaps),
                [Check(f"gaps > 2 ms at {rate:,} spans/s: no more than the control (floor)",
                       f"{gaps['afterglow']} to {gaps['floor']}", excess <= 0)])
        )  # fmt: skip
        rows.append(
            Row(f"{case}: reached", "spans/s", {n: round(m["rate"]) for n, m in middle.items()})
        )
        rows.append(Row(f"{case}: lost", "spans", dict(lost)))
    return rows


def sustained(scale: Scale) -> Row:
    """The highest rung that is reached to 98 % with nothing lost."""
    best: dict[str, float | None] = {}
    for name in available([s for s in SUBJECTS if s not in ("control", "floor")]):
        best[name] = None
        for rate in LADDER:
            with children([name]) as running:
                answer = running[name].ask("busy", rate=rate, seconds=scale.busy_s)
                lost = running[name].ask("close")["lost"]
            if answer["rate"] < 0.98 * rate or lost:
                break
            best[name] = rate
    reached = best["afterglow"] or 0
    target = at_least("sustained beside a busy main thread, nothing lost", reached, 200_000)
    return Row("sustained, main thread busy, nothing lost", "spans/s", dict(best), [target])
