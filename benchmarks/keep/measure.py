"""All cases at all sizes: one child a size, asked in turns, so that noise hits all sizes alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Child, Sample
from benchmarks.table import Check, at_most

__all__ = ["FULL", "QUICK", "Case", "KeepScale", "measure"]

_MODULE = "benchmarks.keep.child"
_WARM_UP = 5
_MIB = 1 << 20


@dataclass(frozen=True)
class KeepScale:
    """How much is measured. The first and the last size are compared."""

    sizes: tuple[int, ...]
    repetitions: int
    boots: int
    stalls: int
    #: The size at which all entries are flushed at once beside a ticking thread.
    stall_size: int
    #: The size that looks after itself, and for how long.
    maintained_size: int
    maintained_s: float


FULL = KeepScale((1_000, 10_000, 100_000, 1_000_000), 200, 7, 3, 100_000, 10_000, 125.0)
QUICK = KeepScale((1_000, 4_000), 6, 1, 1, 4_000, 1_000, 1.0)


@dataclass
class Case:
    """One line of the result: a sample for each size, in ns, and the floor's."""

    name: str
    unit: str
    values: dict[int, Sample | float | None]
    #: The same in CPU time of the calling thread, where that was measured.
    cpu: dict[int, Sample | float | None] = field(default_factory=dict)
    #: How many times the floor's CPU time, the median of pairs that were measured together.
    floor: dict[int, float] = field(default_factory=dict)
    notes: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def growth(self) -> float | None:
        """The last size's low percentile divided by the first's; of CPU time, where known."""
        values = (self.cpu or self.values).values()
        found = [value.low if isinstance(value, Sample) else value for value in values]
        if len(found) < 2 or not found[0] or found[-1] is None:
            return None
        return found[-1] / found[0]


@dataclass(frozen=True)
class _Plan:
    """One operation: how it is asked for, how often (a share of the repetitions), its target."""

    name: str
    do: str
    order: dict[str, Any]
    share: float
    most_ms: float | None = None
    most_growth: float | None = None
    most_floor: float | None = None


_PLANS = (
    _Plan("flush, 1 entry changed", "flush", {"n": 1}, 1.0, 0.5, 2.0, 3.0),
    _Plan("flush, 500 entries changed", "flush", {"n": 500}, 0.2, 10.0, 2.0, 3.0),
    _Plan("decay cycle, none due", "decay", {}, 0.5, 0.5),
    _Plan("a co-activation, flushed", "associate", {}, 0.5, 0.5),
    _Plan("delete an entry with 5 links, flushed", "delete", {}, 0.25),
    _Plan("get", "get", {}, 1.0),
    _Plan("look at the quota", "quota", {}, 0.1),
    _Plan("count the tiers", "tiers", {}, 0.02),
    _Plan("the strongest 10 of all", "strongest", {}, 0.02),
)


def measure(
    scale: KeepScale, folder: Path, new_database: Callable[[], str] | None = None
) -> list[Case]:
    """Everything; what is under way is said on stderr. In files, or in databases of a server."""
    for size in scale.sizes if new_database is not None else ():
        assert new_database is not None
        (folder / str(size)).mkdir(parents=True)
        (folder / str(size) / "urls").write_text(f"{new_database()}\n{new_database()}")
    running = {n: Child(str(n), folder / str(n), _MODULE) for n in scale.sizes}
    try:
        cases = [_built(running)]
        for child in running.values():
            child.ask("open")
        for plan in _PLANS:
            _say(plan.name)
            # Targets in time are for a file: a server's disk and network are its own.
            cases.append(_measured(plan, running, scale, in_file=new_database is None))
        _say("boot")
        cases += _booted(running, folder, scale, in_file=new_database is None)
        _say("stall")
        cases.append(_stalled(running[scale.stall_size], scale))
        _say("maintenance")
        cases.append(_maintained(running[scale.maintained_size], scale))
        for child in running.values():
            child.ask("close")
        return cases
    finally:
        for child in running.values():
            child.end()


def _say(what: str) -> None:
    print(f"--   {what}", file=sys.stderr, flush=True)


def _built(running: dict[int, Child]) -> Case:
    values: dict[int, Sample | float | None] = {}
    floor = {}
    for size, child in running.items():
        _say(f"building {size:,} entries")
        answer = child.ask("build")
        values[size] = answer["ns"] / size
        floor[size] = answer["ns"] / answer["floor_ns"]
    return Case("restore everything, an entry with its links", "us", values, floor=floor)


def _measured(plan: _Plan, running: dict[int, Child], scale: KeepScale, *, in_file: bool) -> Case:
    times: dict[int, list[float]] = {size: [] for size in running}
    cpu: dict[int, list[float]] = {size: [] for size in running}
    ratios: dict[int, list[float]] = {size: [] for size in running}
    seen: set[str] = set()
    repetitions = max(round(scale.repetitions * plan.share), 3)
    warm_up = _WARM_UP if repetitions > _WARM_UP else 1
    for turn in range(repetitions + warm_up):
        for size, child in running.items():
            answer = child.ask(plan.do, **plan.order)
            if turn < warm_up:
                continue
            times[size].append(answer.pop("ns"))
            if floor_ns := answer.pop("floor_ns", None):
                cpu_ns, floor_cpu_ns = answer.pop("cpu_ns"), answer.pop("floor_cpu_ns")
                if in_file:  # else most of the work is the server's
                    cpu[size].append(cpu_ns)
                ratios[size].append(
                    cpu_ns / floor_cpu_ns if in_file else times[size][-1] / floor_ns
                )
            seen.add(", ".join(f"{name} {value}" for name, value in answer.items()))
    case = Case(
        plan.name,
        "us",
        {size: Sample.of(values) for size, values in times.items()},
        {size: Sample.of(values) for size, values in cpu.items() if values},
        {size: statistics.median(values) for size, values in ratios.items() if values},
        " or ".join(sorted(seen)),
    )
    _judge(plan, case, in_file=in_file)
    return case


def _judge(plan: _Plan, case: Case, *, in_file: bool) -> None:
    last = list(case.values)[-1]
    sample = case.values[last]
    if in_file and plan.most_ms is not None and isinstance(sample, Sample):
        low_ms = sample.low / 1e6
        case.checks.append(at_most(f"{plan.name}, {last:,} entries", low_ms, plan.most_ms, " ms"))
    if plan.most_growth is not None and case.growth is not None:
        what = f"{plan.name}, {last:,} : {next(iter(case.values)):,} entries"
        case.checks.append(at_most(what, case.growth, plan.most_growth, " x"))
    if plan.most_floor is not None:
        worst = max(case.floor.values())
        case.checks.append(at_most(f"{plan.name}, worst : floor", worst, plan.most_floor, " x"))


def _booted(
    running: dict[int, Child], folder: Path, scale: KeepScale, *, in_file: bool
) -> list[Case]:
    times: dict[int, list[float]] = {size: [] for size in running}
    peaks: dict[int, float] = dict.fromkeys(running, 0.0)
    for turn in range(scale.boots):
        for size in running:
            # A process of its own beside the child, which does nothing meanwhile.
            words = [sys.executable, "-m", _MODULE, "boot", _place(folder / str(size))]
            done = subprocess.run(
                [*words, str(_untouched(size, turn))],
                cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True,
            )  # fmt: skip
            answer = json.loads(done.stdout)
            times[size].append(answer["ns"])
            peaks[size] = max(peaks[size], answer["peak_bytes"])
    last = scale.sizes[-1]
    first_get = Case("boot: open and first get", "us", {s: Sample.of(t) for s, t in times.items()})
    low_ms = min(times[last]) / 1e6
    if in_file:
        first_get.checks.append(at_most(f"boot, first get, {last:,} entries", low_ms, 20, " ms"))
    memory = Case("  peak memory of that process", "MiB", {s: p / _MIB for s, p in peaks.items()})
    worst = max(peaks.values()) / _MIB
    memory.checks.append(at_most("peak memory at boot", worst, 150, " MiB"))
    return [first_get, memory]


def _place(folder: Path) -> str:
    urls = folder / "urls"
    return urls.read_text().split("\n")[0] if urls.exists() else str(folder / "store.db")


def _untouched(size: int, turn: int) -> int:
    """An entry that is there, most likely: few were deleted."""
    return (size // 3 + turn * 7) % size


def _stalled(child: Child, scale: KeepScale) -> Case:
    answers = [child.ask("stall", n=scale.stall_size // 2) for _ in range(scale.stalls)]
    best = min(answers, key=lambda answer: answer["gap_ns"])
    gap_ms = statistics.median(a["gap_ns"] for a in answers) / 1e6
    notes = "; ".join(
        f"{a['gap_ns'] / 1e6:.1f} (floor {a['floor_gap_ns'] / 1e6:.1f}, nothing "
        f"{a['control_gap_ns'] / 1e6:.1f}) ms, above 10 ms {a['above_10_ms']} times "
        f"(nothing: {a['control_above_10_ms']})"
        for a in answers
    )
    name = f"longest stall of another thread, {scale.stall_size // 2:,} flushed"
    case = Case(name, "ms", {scale.stall_size: gap_ms}, notes=notes)
    case.checks.append(at_most(f"{name} (the best run)", best["gap_ns"] / 1e6, 20, " ms"))
    return case


def _maintained(child: Child, scale: KeepScale) -> Case:
    answer = child.ask("maintained", seconds=scale.maintained_s)
    name = f"maintained for {scale.maintained_s:g} s, 10 uses a second"
    right = answer["wrong"] == 0 and answer["unreadable"] == 0
    notes = (
        f"{answer['wrong']} wrong and {answer['unreadable']} unreadable entries in the file; "
        f"{'with' if answer['cycled'] else 'without'} a decay cycle"
    )
    case = Case(name, "% of a core", {scale.maintained_size: answer["share"] * 100}, notes=notes)
    case.checks.append(at_most(name, answer["share"] * 100, 1, " % of a core"))
    case.checks.append(Check("every entry right in the file afterwards", notes, right))
    return case
