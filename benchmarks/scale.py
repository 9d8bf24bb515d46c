"""How much is measured: `--quick` shows that the harness works, the default is for figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all cases in one place."""

    repetitions: int
    rounds: int
    cpu_spans: int
    calls: int
    busy_s: float
    kills: int
    disk_spans: int


FULL = Scale(
    repetitions=400,
    rounds=5,
    cpu_spans=200_000,
    calls=200_000,
    busy_s=4.0,
    kills=10,
    disk_spans=400_000,
)
QUICK = Scale(
    repetitions=16,
    rounds=1,
    cpu_spans=20_000,
    calls=5_000,
    busy_s=0.5,
    kills=1,
    disk_spans=40_000,
)
