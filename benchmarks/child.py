"""A subject in a process of its own, driven line by line by `harness.Child`.

Each line on stdin is `{"do": name, ...}`, each answer one line of JSON. Only one child works at
a time, so that all that is noisy on the machine hits the peers alike.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from benchmarks import busy, loops
from benchmarks.api_subjects import API_SUBJECTS
from benchmarks.subjects import SUBJECTS, Subject

Answer = dict[str, Any]


def loop(subject: Subject, shape: str, n: int) -> Answer:
    """`n` spans of a shape, as fast as it goes."""
    if shape not in subject.loops:
        return {"ns": None}
    run = subject.loops[shape]
    before = perf_counter_ns()
    run(n)
    return {"ns": (perf_counter_ns() - before) / n}


def threads(subject: Subject, n: int) -> Answer:
    """`n` spans from eight threads that start together; wall time by span."""
    run = subject.loops["plain"]
    ready = threading.Barrier(9)

    def work() -> None:
        ready.wait()
        run(n // 8)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    ready.wait()
    before = perf_counter_ns()
    for worker in workers:
        worker.join()
    return {"ns": (perf_counter_ns() - before) / (n // 8 * 8)}


def cpu(subject: Subject, shape: str, n: int) -> Answer:
    """Process CPU of `n` spans until all are durable; in bursts, so that no queue overflows."""
    run = subject.loops[shape]
    before = process_time_ns()
    for _ in range(0, n, 10_000):
        run(min(n, 10_000))
        subject.settle()
    subject.close()
    return {"ns": (process_time_ns() - before) / n, "lost": subject.lost()}


DO: dict[str, Callable[..., Answer]] = {
    "loop": loop,
    "threads": threads,
    "cpu": cpu,
    "tasks": loops.tasks,
    "gap": loops.gap,
    "calls": busy.calls,
    "busy": busy.busy,
}
ASKS_N = {"loop", "threads", "cpu", "tasks", "gap", "calls"}


def main() -> None:
    name, directory = sys.argv[1:]
    # What a recorder prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subject = (SUBJECTS | API_SUBJECTS)[name](Path(directory))
    closed = False
    for line in sys.stdin:
        order = json.loads(line)
        do = order.pop("do")
        if do == "settle":
            subject.settle()
            answer: Answer = {}
        elif do == "written":
            answer = {"bytes": subject.written_bytes()}
        elif do == "close":
            if not closed:
                subject.close()
            answer = {"lost": subject.lost(), "made": subject.made}
        else:
            if do in ASKS_N:
                subject.made += order["n"]
            answer = DO[do](subject, **order)
            subject.between()
            closed = closed or do == "cpu"
        with suppress(BrokenPipeError):
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
