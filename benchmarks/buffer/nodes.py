"""What a pass costs the nodes of a cluster: calls, CPU, memory, and the longest commands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from afterglow.buffer.scripts import SCRIPTS
from scripts.redis_cluster import ClusterNode, RedisCluster

__all__ = ["Cost", "Watch", "control_us", "forget_what_went_out"]

#: What the cluster and this benchmark say among themselves.
_NOT_OURS = {"info", "config", "slowlog", "ping", "replconf", "psync", "cluster", "command"}
_SLOW_US = 200
#: Some 0.4 ms of nothing, and how often: as long in all as the scripts of a small case.
_SPIN = "local n = 0 for i = 1, 60000 do n = n + i end return n"
_SPINS = 500


@dataclass
class Cost:
    """Of one pass, over all masters, the replicas' CPU apart."""

    #: Commands that masters ran, those of scripts among them.
    calls: int
    #: What each master has more of its memory in use than before, but for the buffers of
    #: clients and replicas.
    memory_bytes: list[int]
    cpu_s: list[float]
    replicas_cpu_s: list[float]
    longest_us: int
    #: What that was: a command, or the name of a script.
    longest: str
    #: How many ran longer than 5 ms.
    above_5_ms: int

    @property
    def cpu_share(self) -> float:
        """The busiest master's."""
        return max(self.cpu_s) / max(sum(self.cpu_s), 1e-9)

    @property
    def memory_share(self) -> float:
        """That of the master with the most."""
        return max(self.memory_bytes) / max(sum(self.memory_bytes), 1)


class Watch:
    """From its making to `cost()`."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._masters = cluster.masters()
        self._replicas = [node for node in cluster.there() if node not in self._masters]
        for node in self._masters:
            node.watch_slow(_SLOW_US)
        self._before = [_seen(node) for node in self._masters]
        self._replicas_before = [node.cpu_s() for node in self._replicas]

    def cost(self) -> Cost:
        after = [_seen(node) for node in self._masters]
        slow = [entry for node in self._masters for entry in node.slowlog()]
        slow = [entry for entry in slow if _name(entry).lower() not in _NOT_OURS]
        longest = max(slow, key=lambda entry: entry["duration"], default=None)
        pairs = list(zip(self._before, after, strict=True))
        return Cost(
            sum(new[0] - old[0] for old, new in pairs),
            [new[1] - old[1] for old, new in pairs],
            [new[2] - old[2] for old, new in pairs],
            [
                node.cpu_s() - old
                for node, old in zip(self._replicas, self._replicas_before, strict=True)
            ],
            longest["duration"] if longest else _SLOW_US,
            _name(longest) if longest else "none was noted",
            sum(entry["duration"] > 5_000 for entry in slow),
        )


def _seen(node: ClusterNode) -> tuple[int, int, float]:
    """Calls, bytes, CPU seconds of a master so far."""
    stats = node.commandstats()
    calls = sum(int(v["calls"]) for name, v in stats.items() if name.split("|")[0] not in _NOT_OURS)
    return calls, node.kept_bytes(), node.cpu_s()


def _name(entry: dict[str, Any]) -> str:
    """What a slow log's entry ran."""
    words = bytes(entry["command"]).split(b" ")
    if words[0] == b"EVALSHA":
        for name, script in SCRIPTS.items():
            if script.sha == words[1]:
                return f"script {name}"
    return words[0].decode(errors="replace")


def forget_what_went_out(cluster: RedisCluster) -> None:
    """Remove the tombstones, so that the same spans can be added once more as if new."""
    for node in cluster.masters():
        for pattern in ("span-buf:ssr:*", "span-buf:ssm:*"):
            keys = node.keys(pattern)
            # One by one: they are of many slots.
            node.ask_all([("DEL", key.decode("latin-1")) for key in keys])  # type: ignore[misc]


def control_us(cluster: RedisCluster) -> tuple[int, int]:
    """How long a script that always does the same seems to take: the median, and the longest.

    All masters run it at once. What is between the two is the machine, not the script.
    """
    masters = cluster.masters()
    for node in masters:
        node.watch_slow(0)
    spins: list[tuple[str | int, ...]] = [("EVAL", _SPIN, 0)] * _SPINS
    with ThreadPoolExecutor(len(masters)) as pool:
        list(pool.map(lambda node: node.ask_all(spins), masters))
    took = [
        entry["duration"] for node in masters for entry in node.slowlog() if _name(entry) == "EVAL"
    ]
    return sorted(took)[len(took) // 2], max(took)
