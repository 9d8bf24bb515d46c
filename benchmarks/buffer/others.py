"""What the design says that others measured, in thousands where a rate; we did not repeat it.

*Published*: the best published design of this kind (Python, Redis 7 cluster of 3 masters, 100,000
spans of about 1 KB, one worker). *Tried*: the prototype that our design grew from (Python 3.13,
redis-py, 3 masters and 3 replicas, and the worker on two CPUs, +-20 %). `a / b` is batches of 1,000
and of 10,000, and for the prototype's flush CPU seconds and wall seconds.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OTHERS", "Others"]


class Others(NamedTuple):
    """Of one workload, as the design has it; empty: not measured."""

    published_add: str
    tried_add: str
    published_flush: str
    tried_flush: str
    published_calls: str
    tried_commands: str
    published_bytes: str
    tried_bytes: str


OTHERS = {
    "20-span traces, contiguous": Others(
        "72 / 113", "250 / 290", "27-31", "350-390 / 153-219", "4.8", ".04 / .006", "317", "224"
    ),
    "20-span traces, shuffled": Others(
        "13 / 47", "115-158 / 270", "17-21", "211-330 / 112-174", "20 / 7", ".06 / .006",
        "847 / 399", "324 / 240",
    ),
    "500-span traces, shuffled": Others(
        "13 / 54", "223-291 / 270", "15-31", "432-611 / 242-476", "21 / 7", ".03 / .009",
        "823 / 322", "196 / 175",
    ),
    "one trace, shuffled": Others(
        "11 / 12", "265 / 249; 1 M: 224-249", "11-13", "327 / 230; 1 M: 309 / 205", "27 / 24",
        ".005", "1,074 / 972", "185",
    ),
    "chains 1,000 deep, leaves first": Others(
        "54 (10)", "222 / 356-479", "37", "463-807 / 359-656", "", ".05 / .015", "270", "241 / 172"
    ),
}  # fmt: skip
