"""Hosts share out the shards among each other, by leases in Redis."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from afterglow.buffer.connect import Nodes, redis_errors
from afterglow.buffer.control_keys import ControlKeys, script
from afterglow.buffer.lease_plan import plan_shares
from afterglow.clock import Clock, SystemClock

__all__ = ["ShardLeases"]

#: A lease is renewed when a third of it is over: two lost messages cost nothing.
_RENEW: Final = 3


class ShardLeases:
    """One host's share of the shards. One thread (the supervisor's); never raises.

    Hosts with another number of shards share out theirs among themselves: each such group
    covers the whole queue, so a change of the number, host by host, leaves nothing out.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        host: str,
        key_prefix: str,
        shards: int,
        lease_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._nodes = nodes
        keys = ControlKeys(key_prefix)
        self._names = [keys.hosts(shards), *(keys.shard(shards, s) for s in range(shards))]
        self._shards = shards
        self._host = host
        self._lease_s = lease_s
        self._clock = clock or SystemClock()
        self._looked_ns = self._renewed_ns = self._clock.monotonic_ns() - round(lease_s * 1e9)
        self._owned: frozenset[int] = frozenset()
        self._giving_up: frozenset[int] = frozenset()

    @property
    def shards(self) -> frozenset[int]:
        """What this host's flushers may take from just now."""
        return self._owned - self._giving_up

    def step(self, in_use: Collection[int]) -> frozenset[int]:
        """Renew, take and give up, when a third of a lease is over; the shards to work on.

        `in_use` are shards that some flusher has not finished with: these stay ours until it
        has. With a Redis that is away nothing is ours once the lease is over.
        """
        now_ns = self._clock.monotonic_ns()
        finished = self._giving_up - frozenset(in_use)
        if finished or now_ns - self._looked_ns >= self._lease_s * 1e9 / _RENEW:
            self._looked_ns = now_ns
            try:
                self._share(finished, now_ns)
            except redis_errors():
                if now_ns - self._renewed_ns >= self._lease_s * 1e9:
                    self._owned = self._giving_up = frozenset()
        return self.shards

    def leave(self) -> None:
        """Give everything back, so that others need not wait for the leases' end."""
        try:
            self._say("leave", frozenset(), self._owned)
        except redis_errors():
            pass  # the leases end by themselves
        self._owned = self._giving_up = frozenset()

    def _share(self, finished: frozenset[int], now_ns: int) -> None:
        hosts, owners = self._say("stay", self._owned - finished, finished)
        plan = plan_shares(self._host, hosts, owners)
        if plan.take:
            hosts, owners = self._say("stay", plan.take, frozenset())
        self._renewed_ns = now_ns
        self._owned = frozenset(s for s, owner in enumerate(owners) if owner == self._host)
        self._giving_up = plan.give_up & self._owned

    def _say(
        self, stay: str, keep: frozenset[int], drop: frozenset[int]
    ) -> tuple[list[str], list[str]]:
        wishes = [
            "keep" if shard in keep else "drop" if shard in drop else ""
            for shard in range(self._shards)
        ]
        hosts, owners = self._nodes.client.eval(
            script("share_shards"), len(self._names), *self._names,
            self._host, stay, round(self._lease_s * 1_000), *wishes,
        )  # fmt: skip
        return [h.decode() for h in hosts], [o.decode() for o in owners]
