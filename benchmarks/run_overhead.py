"""How much longer a call-heavy program takes under `afterglow run`.

    python -m benchmarks.run_overhead

Each program of call_heavy.py by plain Python and under `afterglow run`, in turn, a few times;
the quickest of each is what counts. The interpreter's start is not in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.call_heavy import PROGRAMS
from benchmarks.scale import Scale
from benchmarks.table import Row, Value, at_most, checks, table

REPETITIONS = 3
TARGET = 3.0


def measure(scale: Scale | None = None) -> list[Row]:
    """A row for each program: ms plain (control) and traced, and the ratio's check."""
    return [_measured(name) for name in PROGRAMS]


def _measured(name: str) -> Row:
    plain = traced = float("inf")
    for _ in range(REPETITIONS):
        plain = min(plain, _seconds([], name))
        with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder:
            database = str(Path(folder) / "run.db")
            run = ["-m", "afterglow", "run", "--quiet", "--db", database]
            traced = min(traced, _seconds(run, name))
    values: dict[str, Value] = {"control": plain * 1e3, "afterglow": traced * 1e3}
    ratio = at_most(f"afterglow run, {name}: times as long", traced / plain, TARGET)
    return Row(f"afterglow run: {name}", "ms", values, [ratio])


def _seconds(before: list[str], name: str) -> float:
    script = Path(__file__).with_name("call_heavy.py")
    command = [sys.executable, *before, str(script), name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    rows = measure()
    print("\n".join([*table(rows, ["control", "afterglow"]), "", *checks(rows)]))


if __name__ == "__main__":
    main()
