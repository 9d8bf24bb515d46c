"""One size in a process of its own: builds its files, then does what it is told, line by line.

Each answer is `{"ns": ..., "floor_ns": ..., ...}`: the store's time, and the floor's for the same
rows just after it (or just before it, in turns), in the same process.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, process_time, sleep, thread_time_ns
from typing import Any

import afterglow
from afterglow.keep.entry import Moment
from afterglow.keeping import open_backend
from benchmarks.keep.content import NOW_NS, body, content, id_of, kind_of, record_of
from benchmarks.keep.floor import Floor, row_of

Answer = dict[str, Any]
_BOUNDLESS = {"max_dirty_entries": 10**7, "max_dirty_bytes": 1 << 40}


def timed(do: Callable[[], Any]) -> tuple[int, Any]:
    before = perf_counter_ns()
    result = do()
    return perf_counter_ns() - before, result


def measured(do: Callable[[], Any]) -> tuple[int, int, Any]:
    """Time, CPU time of this thread, and what came of it."""
    before, cpu_before = perf_counter_ns(), thread_time_ns()
    result = do()
    return perf_counter_ns() - before, thread_time_ns() - cpu_before, result


class Subject:
    """A store and its floor, of so many entries: two files, or two databases of a server, whose
    URLs are in the folder then."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.path: str | Path = folder / "store.db"
        self.make_floor: Callable[[], Any] = lambda: Floor(folder / "floor.db")
        urls = folder / "urls"
        if urls.exists():
            from benchmarks.keep.floor_postgres import PostgresFloor

            self.path, floor_url = urls.read_text().split("\n")
            self.make_floor = lambda: PostgresFloor(floor_url)
        self.version = 0
        self.turn = 0
        self.random = random.Random(size)
        self.gone: set[int] = set()

    def build(self) -> Answer:
        """Make both files."""
        backend = open_backend(self.path, "default")
        took, _ = timed(lambda: backend.replace(content(self.size), Moment(0, NOW_NS), NOW_NS))
        backend.close()
        floor = self.make_floor()
        floor_took, _ = timed(lambda: floor.build(self.size))
        floor.close()
        return {"ns": took, "floor_ns": floor_took}

    def open(self) -> Answer:
        self.store = afterglow.TraceStore(self.path, maintenance=False, **_BOUNDLESS)
        self.floor = self.make_floor()
        self.store.count()
        return {}

    # --- one thing, once ----------------------------------------------------------------

    def _both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Answer, Any]:
        """Store and floor, in turns first and second."""
        self.turn += 1
        if self.turn % 2:
            floor_ns, floor_cpu_ns, _ = measured(theirs)
            ns, cpu_ns, result = measured(ours)
        else:
            ns, cpu_ns, result = measured(ours)
            floor_ns, floor_cpu_ns, _ = measured(theirs)
        times = {"ns": ns, "cpu_ns": cpu_ns, "floor_ns": floor_ns, "floor_cpu_ns": floor_cpu_ns}
        return times, result

    def _some(self, n: int) -> list[int]:
        found = self.random.sample(range(self.size), min(n + len(self.gone), self.size))
        return [number for number in found if number not in self.gone][:n]

    def flush(self, n: int) -> Answer:
        """`n` changed entries."""
        self.version += 1
        numbers = self._some(n)
        for number in numbers:
            self.store.store(
                body(number, self.version),
                kind=kind_of(number),
                tags=("bench", f"group{number % 1000}"),
                trace_id=id_of(number),
                intensity=0.5,
            )
        records = [record_of(number, self.version) for number in numbers]
        rows = [row_of(record) for record in records]
        payloads = [(record.payload, record.trace_id) for record in records]
        times, report = self._both(self.store.flush, lambda: self.floor.upsert(rows, payloads))
        return {**times, "entries": report.entries, "rows": report.rows, "encodes": report.encodes}

    def decay(self) -> Answer:
        """A cycle in which nothing is due."""
        times, cycle = self._both(lambda: self.store.decay_cycle(1), self.floor.tick)
        return {**times, "pruned": cycle.pruned}

    def associate(self) -> Answer:
        """A co-activation of two entries, on the disk."""
        a, b = sorted(map(id_of, self._some(2)))

        def ours() -> Any:
            self.store.record_coactivation(a, b)
            return self.store.flush()

        times, report = self._both(ours, lambda: self.floor.upsert_pair(a, b))
        return {**times, "rows": report.rows}

    def delete(self) -> Answer:
        """An entry with its five links, on the disk."""
        (number,) = self._some(1)
        self.gone.add(number)
        trace_id = id_of(number)

        def ours() -> Any:
            self.store.delete(trace_id)
            return self.store.flush()

        times, report = self._both(ours, lambda: self.floor.delete(trace_id))
        return {**times, "rows": report.rows}

    def get(self) -> Answer:
        (number,) = self._some(1)
        ns, entry = timed(lambda: self.store.get(id_of(number)))
        assert entry is not None
        return {"ns": ns}

    def strongest(self) -> Answer:
        ns, found = timed(lambda: self.store.all(limit=10))
        assert len(found) == 10
        return {"ns": ns}

    def quota(self) -> Answer:
        """A look at the quota that evicts nothing."""
        most = {"max_entries": 1 << 40, "max_payload_bytes": 1 << 50}
        ns, evicted = timed(lambda: self.store.enforce_quota(**most))
        assert evicted == []
        return {"ns": ns}

    def tiers(self) -> Answer:
        ns, _ = timed(self.store.migrate_tiers)
        return {"ns": ns}

    # --- larger things --------------------------------------------------------------------

    def stall(self, n: int) -> Answer:
        """The longest gap of a thread that ticks each millisecond while `n` entries are flushed,
        while the floor writes the same in equal chunks, and while nothing happens."""
        self.version += 1
        numbers = self._some(n)
        for number in numbers:
            self.store.store(
                body(number, self.version), kind=kind_of(number), trace_id=id_of(number)
            )
        records = [record_of(number, self.version) for number in numbers]
        chunks = [
            ([row_of(r) for r in part], [(r.payload, r.trace_id) for r in part])
            for part in (records[i : i + 256] for i in range(0, n, 256))
        ]
        ns, gaps = beside_ticks(self.store.flush)

        def plain() -> None:
            for rows, payloads in chunks:
                self.floor.upsert(rows, payloads)

        floor_ns, floor_gaps = beside_ticks(plain)
        _, control_gaps = beside_ticks(lambda: sleep(ns / 1e9))
        return {
            "ns": ns,
            "floor_ns": floor_ns,
            "gap_ns": max(gaps),
            "floor_gap_ns": max(floor_gaps),
            "control_gap_ns": max(control_gaps),
            "above_10_ms": sum(gap > 10**7 for gap in gaps),
            "control_above_10_ms": sum(gap > 10**7 for gap in control_gaps),
        }

    def maintained(self, seconds: float) -> Answer:
        """CPU of a store that looks after itself, and that uses ten entries a second."""
        self.store.close()
        store = afterglow.TraceStore(self.path)
        used: dict[str, int] = {}
        cycle_before = store.last_cycle
        sleep(0.2)
        before = process_time()
        for i in range(int(seconds * 10)):
            trace_id = id_of(self._some(1)[0])
            store.reinforce(trace_id)
            used[trace_id] = used.get(trace_id, 0) + 1
            if i % 50 == 49:
                store.store(body(-i), kind="semantic")
            sleep(0.1)
        cpu = process_time() - before
        cycled = store.last_cycle != cycle_before
        store.close()
        with afterglow.TraceStore(self.path, maintenance=False) as again:
            entries = {trace_id: again.get(trace_id) for trace_id in used}
            wrong = sum(
                entry is None or entry.reinforcement_count < used[trace_id]
                for trace_id, entry in entries.items()
            )
            whole = sum(1 for entry in again.all() if entry.payload["text"])
            remaining = again.count()
        self.open()
        return {"share": cpu / seconds, "cycled": cycled, "wrong": wrong,
                "unreadable": remaining - whole}  # fmt: skip

    def close(self) -> Answer:
        self.store.close()
        self.floor.close()
        return {}


def beside_ticks(do: Callable[[], Any]) -> tuple[int, list[int]]:
    """How long it takes, and the gaps of a ticking thread meanwhile, in ns."""
    gaps: list[int] = [0]
    over = threading.Event()
    begun = threading.Event()

    def tick() -> None:
        last = perf_counter_ns()
        begun.set()
        while not over.is_set():
            sleep(0.001)
            now = perf_counter_ns()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    begun.wait()
    took, _ = timed(do)
    over.set()
    thread.join()
    return took, gaps


def boot(path: str, number: str) -> None:
    """In a process of its own: open, get one entry, and say what that took, imports aside."""
    kind = "postgres" if "://" in path else "sqlite"
    importlib.import_module(f"afterglow.keep.{kind}.backend")
    before = perf_counter_ns()
    with afterglow.TraceStore(path) as store:
        entry = store.get(id_of(int(number)))
        took = perf_counter_ns() - before
        assert entry is not None
        assert entry.payload["n"] == int(number)
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"ns": took, "peak_bytes": peak_kib * 1024}))


def main() -> None:
    if sys.argv[1] == "boot":
        boot(*sys.argv[2:])
        return
    size, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subject = Subject(Path(folder), int(size))
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(subject, order.pop("do"))(**order)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
