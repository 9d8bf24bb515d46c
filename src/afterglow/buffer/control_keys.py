"""The control keys: few, small, without a TTL unless it says so, all in one slot (`{ctl}`).

One slot, so that a script may look at all of them at once; what is in them is read once a
second by each process, which one node bears.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["CONTROL_TAG", "ControlKeys", "script"]

CONTROL_TAG: Final = "{ctl}"


class ControlKeys:
    """The names of the control keys of one buffer; docs/redis-keys.md is the table for people."""

    def __init__(self, prefix: str) -> None:
        #: Every control key begins so.
        self.prefix = f"{prefix}:ctl:{CONTROL_TAG}:"
        #: STRING, JSON: the phase of the rollout, who set it, when.
        self.rollout = f"{self.prefix}rollout"
        #: HASH, process -> "seen_ms JSON": who uses this buffer, following which phase.
        self.processes = f"{self.prefix}processes"
        #: STRING with TTL: why ingest should wait.
        self.pressure = f"{self.prefix}pressure"

    def hosts(self, shards: int) -> str:
        """ZSET, host -> seen_ms: who takes part in sharing out `shards` shards."""
        return f"{self.prefix}hosts:{shards}"

    def shard(self, shards: int, shard: int) -> str:
        """STRING with TTL: the host that has this shard of so many."""
        return f"{self.prefix}shard:{shards}:{shard}"


@cache
def script(name: str) -> str:
    """The text of a script of ours, lua/NAME.lua."""
    return (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
