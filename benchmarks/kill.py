"""What kill -9 costs: finished spans, in ms before the kill, that are in no file afterwards."""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT, Sample
from benchmarks.scale import Scale
from benchmarks.table import Row, at_most

FLUSH_INTERVAL_MS = 500


def measure(scale: Scale) -> list[Row]:
    chance = random.Random(scale.kills)
    losses = [one_kill(0.8 + 1.5 * chance.random()) for _ in range(scale.kills)]
    worst = max(losses)
    check = at_most("lost by SIGKILL, the worst", worst, FLUSH_INTERVAL_MS + 50, " ms")
    return [
        Row("lost by SIGKILL", "ms", {"afterglow": Sample.of(losses)}),
        Row(f"lost by SIGKILL, the worst of {len(losses)}", "ms", {"afterglow": worst}, [check]),
    ]


def one_kill(after_s: float) -> float:
    """Milliseconds between the newest span that finished and the newest that was kept."""
    import afterglow

    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as directory:
        database, note = Path(directory) / "killed.db", Path(directory) / "note"
        note.write_bytes(bytes(16))
        victim = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.victim", str(database), str(note)], cwd=ROOT
        )
        while struct.unpack("<qq", note.read_bytes())[1] == 0 and victim.poll() is None:
            time.sleep(0.005)
        time.sleep(after_s)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        finished_ns, _made = struct.unpack("<qq", note.read_bytes())
        with afterglow.open(database) as opened:
            kept_ns = max((s.end_ns for s in opened.spans(name="work") if s.end_ns), default=0)
        return max(0.0, (finished_ns - kept_ns) / 1e6)
