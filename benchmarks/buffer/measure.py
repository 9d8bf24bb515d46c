"""All workloads, in turns: one worker and one flusher, a floor, then several of them at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.buffer.nodes import Cost, Watch, control_us, forget_what_went_out
from benchmarks.buffer.workloads import workloads
from benchmarks.harness import Child
from scripts.redis_cluster import RedisCluster

__all__ = ["FULL", "QUICK", "BufferScale", "Pass", "Results", "Run", "Together", "measure"]

_MODULE = "benchmarks.buffer.child"
GIANT = 3
_SHUFFLED = 1


@dataclass(frozen=True)
class BufferScale:
    """How much is measured."""

    n_spans: int
    batches: tuple[int, ...]
    rounds: int
    #: How many workers, and as many flushers, at once; and how many spans each adds and flushes.
    together: tuple[int, ...]
    n_spans_each: int
    #: Before that each process has added and flushed so many.
    n_warm_up: int
    #: Spans of the giant trace; 0: none.
    n_giant: int = 0


FULL = BufferScale(100_000, (1_000, 10_000), 3, (1, 2, 4), 50_000, 25_000)
QUICK = BufferScale(4_000, (1_000, 4_000), 1, (1, 2), 2_000, 2_000)


@dataclass
class Pass:
    """All spans once: added, flushed, or what the floor does of it."""

    spans: int
    cpu_s: float
    wall_s: float
    commands: int
    cost: Cost | None = None

    @property
    def per_cpu_s(self) -> float:
        return self.spans / self.cpu_s

    @property
    def per_wall_s(self) -> float:
        return self.spans / self.wall_s


@dataclass
class Run:
    """One workload in batches of one size, once: a subject, and the floor just after it."""

    workload: str
    n_spans: int
    batch: int
    subject: str
    add: Pass
    flush: Pass
    floor_add: Pass | None = None
    floor_flush: Pass | None = None
    refusals: int = 0
    #: How long a script that is always the same took just after: the median, the longest.
    control_us: tuple[int, int] = (0, 0)
    #: Most memory that the flusher's process ever had, bytes.
    peak_bytes: int = 0
    #: Spans that did not come out exactly once, or that the books do not have.
    wrong: int = 0


@dataclass
class Together:
    """So many workers and as many flushers at once: each kind's spans, CPU and wall time."""

    processes: int
    add: Pass
    flush: Pass
    wrong: int


@dataclass
class Results:
    runs: list[Run] = field(default_factory=list)
    #: A trace of as many spans as elsewhere, added as the giant one is: made between the calls.
    small: Run | None = None
    giant: Run | None = None
    together: list[Together] = field(default_factory=list)
    version: str = ""

    def of(self, subject: str, workload: str, n_spans: int, batch: int) -> list[Run]:
        """The rounds of one case."""
        return [
            run
            for run in self.runs
            if (run.subject, run.workload, run.n_spans, run.batch)
            == (subject, workload, n_spans, batch)
        ]

    def cases(self) -> list[tuple[str, int, int]]:
        """(workload, n_spans, batch) of what was measured in Redis, in order."""
        found = [(r.workload, r.n_spans, r.batch) for r in self.runs if r.subject == "redis"]
        return sorted(dict.fromkeys(found), key=lambda case: _order(case[0], case[1]))


def _order(name: str, n_spans: int) -> tuple[int, int]:
    return [one.name for one in workloads(1_000)].index(name), n_spans


def measure(scale: BufferScale, folder: Path) -> Results:
    """Everything; what is under way is said on stderr."""
    begun = perf_counter()
    results = Results()
    _say("starting a cluster of three masters with a replica each")
    with RedisCluster(node_timeout_ms=15_000) as cluster:
        results.version = str(cluster.nodes[0].info("server")["redis_version"])
        _measure_each(scale, cluster, folder, results)
        if scale.n_giant:
            cluster.flush_all()
            _measure_giant(scale, cluster, folder, results)
        for processes in scale.together:
            _say(f"{processes} workers and {processes} flushers at once")
            cluster.flush_all()
            results.together.append(_measured_together(processes, scale, cluster.url, folder))
    _say(f"it took {perf_counter() - begun:.0f} s")
    return results


def _say(what: str) -> None:
    print(f"--   {what}", file=sys.stderr, flush=True)


@contextmanager
def _children(
    names: list[str], folder: Path, orders: list[dict[str, Any]]
) -> Iterator[list[Child]]:
    """Processes with a buffer each, all of which have done `orders`."""
    children = [Child(name, folder / name, _MODULE) for name in names]
    try:
        for order in orders:
            for child in children:
                child.order(**order)
            for child in children:
                child.answer()
        yield children
        for child in children:
            child.ask("close")
    finally:
        for child in children:
            child.end()


# --- one worker, one flusher ----------------------------------------------------------------


def _measure_each(
    scale: BufferScale, cluster: RedisCluster, folder: Path, results: Results
) -> None:
    names = [workload.name for workload in workloads(scale.n_spans)]
    opened = [{"do": "open", "url": cluster.url}]
    with (
        _children(["flusher"], folder, opened) as (flusher,),
        _children([f"worker {i}" for i in range(len(names))], folder, opened) as workers,
    ):
        for number, worker in enumerate(workers):
            _say(f"making {scale.n_spans:,} spans: {names[number]}")
            worker.ask("make", workload=number, n_spans=scale.n_spans)
            worker.ask("warm", n_spans=scale.n_warm_up)
        for round_number in range(scale.rounds):
            for name, worker in zip(names, workers, strict=True):
                for batch in scale.batches:
                    _say(f"round {round_number + 1}: {name}, batches of {batch:,}")
                    run = _run(name, batch, worker, flusher, cluster)
                    _measure_floor(run, worker, cluster)
                    run.control_us = control_us(cluster)
                    results.runs.append(run)
        for name, worker in zip(names, workers, strict=True):
            _say(f"in memory: {name}")
            for batch in scale.batches * scale.rounds:
                worker.ask("open", url="memory:", max_held_bytes=1 << 40)
                results.runs.append(_run(name, batch, worker, worker, None))


def _measure_giant(
    scale: BufferScale, cluster: RedisCluster, folder: Path, results: Results
) -> None:
    name = workloads(scale.n_giant)[GIANT].name
    opened = [{"do": "open", "url": cluster.url}]
    with _children(["giant worker", "giant flusher"], folder, opened) as (worker, flusher):
        worker.ask("warm", n_spans=scale.n_warm_up)
        for n_spans in (scale.n_spans, scale.n_giant):
            _say(f"{name}, of {n_spans:,} spans (they are made between the calls)")
            worker.ask("make", workload=GIANT, n_spans=n_spans, ahead=False)
            for batch in scale.batches:
                run = _run(name, batch, worker, flusher, cluster)
                run.control_us = control_us(cluster)
                if n_spans == scale.n_giant:
                    results.giant = results.giant or run
                    results.runs.append(run)
                else:
                    results.small = results.small or run


def _run(name: str, batch: int, worker: Child, flusher: Child, cluster: RedisCluster | None) -> Run:
    if cluster is not None:
        forget_what_went_out(cluster)
    before = worker.ask("books")
    watch = Watch(cluster) if cluster is not None else None
    added = worker.ask("add", batch=batch)
    add_cost = watch.cost() if watch is not None else None
    watch = Watch(cluster) if cluster is not None else None
    flushed = flusher.ask("flush")
    flush_cost = watch.cost() if watch is not None else None
    books = worker.ask("books")
    spans = added["spans"]
    wrong = abs(flushed["spans"] - spans) + books["held"] + (not books["balanced"])
    wrong += abs(books["delivered"] - before["delivered"] - spans)
    return Run(
        name,
        spans,
        batch,
        "memory" if cluster is None else "redis",
        _pass(added, spans, add_cost),
        _pass(flushed, spans, flush_cost),
        refusals=added["refusals"],
        peak_bytes=flushed["peak_bytes"],
        wrong=wrong,
    )


def _measure_floor(run: Run, worker: Child, cluster: RedisCluster) -> None:
    watch = Watch(cluster)
    added = worker.ask("floor_add", url=cluster.url, batch=run.batch)
    run.floor_add = _pass(added, run.n_spans, watch.cost())
    watch = Watch(cluster)
    run.floor_flush = _pass(
        {"commands": 2 * added["commands"], **worker.ask("floor_flush")}, run.n_spans, watch.cost()
    )


def _pass(answer: dict[str, Any], spans: int, cost: Cost | None = None) -> Pass:
    cpu_s, wall_s = answer["cpu_ns"] / 1e9, answer["wall_ns"] / 1e9
    return Pass(spans, cpu_s, wall_s, answer["commands"], cost)


# --- several at once ------------------------------------------------------------------------


def _measured_together(processes: int, scale: BufferScale, url: str, folder: Path) -> Together:
    """Flushers flush what was added before, while workers add what is not due yet."""
    n_spans = processes * scale.n_spans_each
    names = [f"{processes} {kind} {i}" for kind in ("worker", "flusher") for i in range(processes)]
    opened = {"do": "open", "url": url, "root_timeout_s": 1_800, "timeout_s": 1_800}
    warm = {"do": "warm", "n_spans": scale.n_warm_up}
    with _children(names, folder, [opened, warm]) as children:
        workers, flushers = children[:processes], children[processes:]
        for number, worker in enumerate(workers):
            share = [number, processes]
            worker.order("make", workload=_SHUFFLED, n_spans=n_spans, share=share)
        for worker in workers:
            worker.answer()
        for worker in workers:
            worker.order("add", batch=scale.batches[0], project="before")
        spans = sum(worker.answer()["spans"] for worker in workers)
        before = workers[0].ask("books")
        for number, flusher in enumerate(flushers):
            flusher.order("flush", share=[number, processes])
        for worker in workers:
            worker.order("add", batch=scale.batches[0], ago=False)
        added = [worker.answer() for worker in workers]
        flushed = [flusher.answer() for flusher in flushers]
        books = workers[0].ask("books")
    wrong = abs(sum(one["spans"] for one in flushed) - spans) + (not books["balanced"])
    wrong += abs(books["delivered"] - before["delivered"] - spans) + abs(books["held"] - spans)
    return Together(processes, _sum(added), _sum(flushed), wrong)


def _sum(answers: list[dict[str, Any]]) -> Pass:
    """CPU time of all, wall time of the slowest."""
    return Pass(
        sum(one["spans"] for one in answers),
        sum(one["cpu_ns"] for one in answers) / 1e9,
        max(one["wall_ns"] for one in answers) / 1e9,
        sum(one["commands"] for one in answers),
    )
