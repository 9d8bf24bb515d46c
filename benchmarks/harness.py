"""Children, repetitions, and what is made of them: the low percentile and the median."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: One repetition lasts about so long: short enough that many fall between two disturbances.
REPETITION_NS = 2_000_000
#: ferret-io writes every 100 spans: so many, that each repetition has one such write in it, and
#: only every tenth round, for it takes a hundred times as long as the rest together.
FERRET_SPANS, FERRET_EVERY = 100, 10


class Child:
    """A subject in a process of its own."""

    def __init__(self, name: str, directory: Path, module: str = "benchmarks.child") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, name, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Have it do something; the other children sleep meanwhile."""
        self.order(do, **order)
        return self.answer()

    def order(self, do: str, **order: Any) -> None:
        """Have it begin; `answer` waits for what comes of it, so that several work at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What came of the last order."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} died (exit code {self._process.wait()})")
        result: dict[str, Any] = json.loads(answer)
        return result

    def end(self) -> None:
        """Let it go, and wait until it has gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def children(names: Iterable[str]) -> Iterator[dict[str, Child]]:
    """One child for each subject, all started before any works."""
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as directory:
        started = {name: Child(name, Path(directory) / name) for name in names}
        try:
            yield started
        finally:
            for child in started.values():
                child.end()


class Sample(NamedTuple):
    """Many repetitions of one thing, in ns: what a quiet machine shows, and the middle."""

    low: float
    median: float

    @classmethod
    def of(cls, values: list[float]) -> Sample:
        ordered = sorted(values)
        return cls(ordered[len(ordered) // 20], statistics.median(ordered))


def available(names: Iterable[str]) -> list[str]:
    """The subjects that can be imported here; ferret-io needs Python 3.13."""
    from importlib.util import find_spec

    needs = {"otel": "opentelemetry.sdk", "otel-file": "opentelemetry.sdk", "ferret": "ferret"}
    return [name for name in names if name not in needs or _found(find_spec, needs[name])]


def _found(find_spec: Any, module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def interleaved(
    running: dict[str, Child], repetitions: int, do: str, **order: Any
) -> dict[str, Sample | None]:
    """Each child in turn, A B C A B C, so often; the number of spans is calibrated first."""
    spans = {name: _calibrated(child, do, order) for name, child in running.items()}
    seen: dict[str, list[float]] = {name: [] for name, n in spans.items() if n}
    for turn in range(repetitions):
        for name, values in seen.items():
            if name != "ferret" or turn % FERRET_EVERY == 0:
                values.append(running[name].ask(do, **{**order, "n": spans[name]})["ns"])
    return {name: Sample.of(values) for name, values in seen.items()}


def _calibrated(child: Child, do: str, order: dict[str, Any]) -> int:
    """How many spans a repetition has; 0 where the subject has no such shape."""
    if "n" in order:
        child.ask(do, **order)
        return int(order["n"])
    child.ask(do, **order, n=40)  # warms up
    first = child.ask(do, **order, n=40)["ns"]
    if first is None:
        return 0
    if child.name == "ferret":
        return FERRET_SPANS
    return max(40, min(2_000, int(REPETITION_NS / first) // 8 * 8))
