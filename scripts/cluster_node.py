"""One of the six processes of scripts/redis_cluster.py, and what it says of the others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from scripts.redis_server import RedisNode
from scripts.servers import Identity, Place


@dataclass(frozen=True)
class Seen:
    """What a node's table says of a node: a line of `CLUSTER NODES`."""

    node_id: str
    is_master: bool
    master_id: str | None
    failed: bool
    connected: bool
    slots: tuple[tuple[int, int], ...]
    moving: tuple[int, ...]
    """slots that are half moved; a node tells only its own"""


class ClusterNode(RedisNode):
    """One of the six. Nodes 0 to 2 start as masters, node 3 + n as the replica of node n."""

    def __init__(
        self,
        place: Place,
        name: str,
        port: int,
        bus_port: int,
        identity: Identity = (None, None),
    ) -> None:
        super().__init__(place, name, port, identity)
        self.bus_port = bus_port
        self.node_id = hashlib.sha1(f"{name}:{port}".encode()).hexdigest()
        self.paused = False
        self.heirs: list[ClusterNode] = []
        """the replicas it had when it was killed or paused"""

    def pause(self) -> None:
        super().pause()
        self.paused = True

    def resume(self) -> None:
        super().resume()
        self.paused = False

    def there(self) -> bool:
        """Whether asking it makes sense."""
        return self.alive() and not self.paused

    def table(self) -> dict[str, Seen]:
        """All nodes as this one sees them, by node id."""
        found: dict[str, Any] = self.ask("CLUSTER NODES")
        seen = {}
        for line in found.values():
            flags = line["flags"].split(",")
            runs = (tuple(map(int, (run[0], run[-1]))) for run in line["slots"])
            seen[line["node_id"]] = Seen(
                line["node_id"],
                "master" in flags,
                None if line["master_id"] == "-" else line["master_id"],
                "fail" in flags or "fail?" in flags,
                line["connected"],
                tuple((low, high) for low, high in runs),
                tuple(int(one["slot"]) for one in line["migrations"]),
            )
        return seen

    def itself(self) -> Seen:
        return self.table()[self.node_id]

    def is_master(self) -> bool:
        return self.itself().is_master

    def slots(self) -> set[int]:
        """The slots that it owns."""
        return {slot for low, high in self.itself().slots for slot in range(low, high + 1)}
