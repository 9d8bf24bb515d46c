"""How many replicas of each node there are to wait for.

After a failover a new master has none until the old one is back. To wait for what is not there
would be an outage as long as that; so a node is asked for as many as are connected to it, and
for all that are wanted as soon as they are. A replica that is connected and silent is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import RedisError

from afterglow.clock import Clock
from afterglow.errors import SpanBufferError

__all__ = ["Replicas"]

_LOOK_NS: Final = 1_000_000_000
Node = tuple[str, int]


class Replicas:
    """Which nodes have fewer replicas than they should. Threads may race: each look is right."""

    def __init__(self, role: Callable[[Node], Any], clock: Clock) -> None:
        self._role = role
        self._clock = clock
        #: Nodes that lacked replicas when they were last looked at: (how many they had, when).
        self._few: dict[Node, tuple[int, int]] = {}

    def wanted(self, node: Node, replicas: int) -> int:
        """How many replicas of a node to wait for, of those that the caller wants."""
        few = self._few.get(node)
        if few is None or not replicas:
            return replicas
        connected, looked_ns = few
        if self._clock.monotonic_ns() - looked_ns >= _LOOK_NS:
            connected = self.look(node)
            if connected >= replicas:
                self._few.pop(node, None)
        return min(replicas, connected)

    def missing(self, node: Node, wanted: int, had: Any) -> int:
        """How many replicas did not confirm though they are connected; `had` answered WAIT."""
        confirmed = had if isinstance(had, int) else 0
        if confirmed >= wanted:
            return 0
        return max(min(wanted, self.look(node)) - confirmed, 0)

    def look(self, node: Node) -> int:
        """Ask a node how many replicas are connected to it; 0 where it does not say."""
        try:
            role = self._role(node)
        except (SpanBufferError, RedisError):
            return 0
        connected = len(role[2]) if role[0] == b"master" else 0
        self._few[node] = (connected, self._clock.monotonic_ns())
        return connected
