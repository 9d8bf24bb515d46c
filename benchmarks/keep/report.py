"""The result as tables for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Sample
from benchmarks.keep.measure import Case
from benchmarks.table import aligned, shown

__all__ = ["as_json", "lines"]

_NOTE = (
    "`a / b` is the 5th percentile and the median of many single operations, in turns over the "
    "sizes. *CPU* is the CPU time of the calling thread, which other work on the machine does not "
    "lengthen; *last : first* and *: floor* are of it where it is given. *: floor* is the median "
    "of pairs that were measured together: the store divided by plain SQL that writes the same "
    "rows where as many are."
)


def lines(cases: Sequence[Case]) -> list[str]:
    """Markdown that is also readable on a terminal."""
    sizes = sorted({size for case in cases for size in case.values})
    head = ["case", "unit", *(f"{size:,}" for size in sizes), "last : first"]
    rows: list[list[str]] = []
    for case in cases:
        growth = case.growth
        figures = [shown(_scaled(case, case.values.get(size))) for size in sizes]
        rows.append([case.name, case.unit, *figures, "" if growth is None else f"{growth:.2f}"])
        if case.cpu:
            cpu = [shown(_scaled(case, case.cpu.get(size))) for size in sizes]
            rows.append(["  CPU", case.unit, *cpu, ""])
        if case.floor:
            ratios = [f"{case.floor[s]:.2f}" if s in case.floor else "" for s in sizes]
            rows.append(["  : floor", "times", *ratios, ""])
    notes = [f"* {case.name}: {case.notes}" for case in cases if case.notes]
    checks = [
        [check.text, check.measured, "met" if check.met else "NOT MET"]
        for case in cases
        for check in case.checks
    ]
    return [_NOTE, "", *aligned(head, rows), "", *notes, "",
            *aligned(["target", "measured", ""], checks)]  # fmt: skip


def _scaled(case: Case, value: Sample | float | None) -> Sample | float | None:
    """Times are ns, and shown as us."""
    if case.unit != "us" or value is None:
        return value
    return Sample(value.low / 1e3, value.median / 1e3) if isinstance(value, Sample) else value / 1e3


def as_json(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Times are ns."""
    return [
        {
            "case": case.name,
            "unit": "ns" if case.unit == "us" else case.unit,
            "values": {
                str(size): value._asdict() if isinstance(value, Sample) else value
                for size, value in case.values.items()
            },
            "cpu": {
                str(size): value._asdict() if isinstance(value, Sample) else value
                for size, value in case.cpu.items()
            },
            "floor": {str(size): ratio for size, ratio in case.floor.items()},
            "growth": case.growth,
            "notes": case.notes,
            "checks": [vars(check) for check in case.checks],
        }
        for case in cases
    ]
