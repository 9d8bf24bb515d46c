"""kill -9 at a random moment: at most one flush interval (+ 50 ms) of finished spans is lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import afterglow

#: Ends a span each millisecond or so, and prints its number only then.
VICTIM = """
import sys, time
import afterglow
tracer = afterglow.Tracer(sys.argv[1], flush_interval_s=0.2)
whole = tracer.start_span("whole")
number = 0
while True:
    with tracer.span("work", number=number):
        pass
    print(number, time.time_ns(), flush=True)
    number += 1
    time.sleep(0.001)
"""
ALLOWED_NS = (200 + 50) * 1_000_000


def kill_once(path: Path, after: int) -> int:
    """Kill the victim after so many spans; how many ns of finished spans were lost.

    (One killed within its first interval may leave nothing at all, and no file.)
    """
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    lines = [victim.stdout.readline() for _ in range(after)]
    victim.send_signal(signal.SIGKILL)
    lines += victim.stdout.readlines()
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    ended = {int(number): int(ns) for number, ns in (line.split() for line in lines if " " in line)}
    with afterglow.open(path) as database:
        kept = {span.attributes["number"] for span in database.spans(name="work")}
        (run,) = database.runs()
        whole = list(database.spans(name="whole"))
    assert kept >= set(range(max(kept, default=-1) + 1)), "a hole in the middle"
    last = max(ended.values())
    lost = [ns for number, ns in ended.items() if number not in kept]
    assert run.state == "interrupted"
    # What had been open for longer than an interval is there, without an end.
    if last - min(ended.values()) > 2 * ALLOWED_NS:
        assert [span.interrupted for span in whole] == [True]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
    return last - min(lost) if lost else 0


def kill_often(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    lost = [
        kill_once(folder / f"{number}.db", chance.randrange(400, 900)) for number in range(times)
    ]
    print(f"lost at most {max(lost) / 1e6:.0f} ms in {times} kills")
    assert max(lost) <= ALLOWED_NS


def test_a_few_kills(tmp_path: Path) -> None:
    kill_often(tmp_path, 4, seed=2026)


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path) -> None:
    kill_often(tmp_path, 50, seed=50)
