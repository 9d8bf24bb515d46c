"""Hash slots of a cluster: how they are shared, and how they move from one master to another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.redis_cluster import ClusterNode, RedisCluster

SLOTS = 16_384


def shares(masters: int) -> list[range]:
    """All slots in as many parts as there are masters, as redis-cli cuts them."""
    cuts = [round(SLOTS * number / masters) for number in range(masters + 1)]
    return [range(low, high) for low, high in itertools.pairwise(cuts)]


def as_ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """Slots as (first, last) of their runs."""
    runs: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if runs and runs[-1][1] == slot - 1:
            runs[-1] = (runs[-1][0], slot)
        else:
            runs.append((slot, slot))
    return runs


class SlotMove:
    """Slots on their way from one master to another, in steps that a test can look between.

    After begin() the new owner answers only those who ask with ASKING, the old one sends askers
    of keys that it lacks to the new (ASK), and refuses commands on keys of which it has some
    (TRYAGAIN). migrate() moves keys. finish() moves the rest and gives the slots to their new
    owner (MOVED from then on).
    """

    def __init__(
        self,
        cluster: RedisCluster,
        slots: Sequence[int],
        source: ClusterNode,
        target: ClusterNode,
    ) -> None:
        self.cluster = cluster
        self.slots = list(slots)
        self.source = source
        self.target = target

    def begin(self) -> None:
        """IMPORTING there, MIGRATING here."""
        self._set_slots(self.target, "IMPORTING", self.source.node_id)
        self._set_slots(self.source, "MIGRATING", self.target.node_id)

    def migrate(self, most: int | None = None) -> int:
        """Move so many keys (all by default); how many were there to move."""
        moved = 0
        for slot in self._with_keys():
            while most is None or moved < most:
                count = 1_000 if most is None else min(1_000, most - moved)
                found = self.source.ask("CLUSTER GETKEYSINSLOT", slot, count)
                if not found:
                    break
                self.source.client.migrate(
                    "127.0.0.1", self.target.port, found, 0, 30_000, replace=True
                )
                moved += len(found)
        return moved

    def finish(self) -> int:
        """Move what is left, then the slots; wait until all nodes know. How many keys moved."""
        moved = self.migrate()
        self._set_slots(self.target, "NODE", self.target.node_id)
        self._set_slots(self.source, "NODE", self.target.node_id)
        for master in self.cluster.masters():
            if master not in (self.source, self.target):
                self._set_slots(master, "NODE", self.target.node_id)
        self.cluster.wait_until_ok()
        return moved

    def _set_slots(self, node: ClusterNode, state: str, node_id: str) -> None:
        node.ask_all(("CLUSTER SETSLOT", slot, state, node_id) for slot in self.slots)

    def _with_keys(self) -> list[int]:
        counts = self.source.ask_all(("CLUSTER COUNTKEYSINSLOT", slot) for slot in self.slots)
        return [slot for slot, count in zip(self.slots, counts, strict=True) if count]
