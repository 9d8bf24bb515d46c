"""Back-pressure through Redis: while somebody says so, `add` refuses, and flushing goes on.

The word of it is a key with a TTL, said again every second while it is true, so that nobody
needs to take it back, and a flusher that dies while it is behind does not stop ingest for ever.
"""

from __future__ import annotations

from typing import Final

from afterglow.buffer.connect import Nodes, redis_errors
from afterglow.buffer.control_keys import ControlKeys, script
from afterglow.clock import Clock, SystemClock
from afterglow.config import BufferConfig

__all__ = ["PRESSURE_S", "RedisPressure", "fullest"]

#: How long one word holds: long enough for a few lost ones, short enough to be over soon.
PRESSURE_S: Final = 4.0
_AGAIN_NS: Final = 1_000_000_000
_WATCH_NS: Final = 2_000_000_000
#: Once pressed for memory, until it is this much below the share: no flapping at the edge.
_RELIEF: Final = 0.95


class RedisPressure:
    """One flusher's say about ingest. One thread; never raises for a Redis that is away."""

    def __init__(self, nodes: Nodes, config: BufferConfig, clock: Clock | None = None) -> None:
        self._nodes = nodes
        self._key = ControlKeys(config.key_prefix).pressure
        self._share = config.max_memory_share
        self._clock = clock or SystemClock()
        self._said_ns = self._watched_ns = self._clock.monotonic_ns() - _WATCH_NS
        self._full = False
        self._reason = ""

    def press(self, reason: str) -> None:
        """Ingest should wait, for this reason; at most once a second it is said to all."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._said_ns < _AGAIN_NS:
            return
        self._said_ns = now_ns
        try:
            self._nodes.client.eval(
                script("press"), 1, self._key, reason.encode(), round(PRESSURE_S * 1_000)
            )
        except redis_errors():
            return  # a Redis that cannot be told takes no spans in either

    def watch(self) -> None:
        """Look at the memory of the nodes when two seconds are over, and press if one is full."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._watched_ns >= _WATCH_NS:
            self._watched_ns = now_ns
            try:
                name, share = fullest(self._nodes)
            except redis_errors():
                return
            self._full = share > self._share * (_RELIEF if self._full else 1.0)
            self._reason = f"{name} has used {share:.0%} of its maxmemory"
        if self._full:
            self.press(self._reason)


def fullest(nodes: Nodes) -> tuple[str, float]:
    """The master that is fullest, and its used_memory as a share of maxmemory (0: no limit)."""
    found = ("", 0.0)
    for name, client in nodes.masters():
        memory = client.info("memory")
        limit = int(memory.get("maxmemory") or 0)
        share = int(memory["used_memory"]) / limit if limit else 0.0
        found = max(found, (name, share), key=lambda pair: pair[1])
    return found
