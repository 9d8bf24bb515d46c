"""The span buffer in Redis: one server, or a cluster. The face of what its neighbours do.

RedisBuffer.from_url("redis+cluster://10.0.0.1:6379,10.0.0.2:6379", BufferConfig())
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from afterglow.assembly import not_spans
from afterglow.buffer.connect import connect
from afterglow.config.buffer import BufferConfig
from afterglow.config.setting import checked
from afterglow.errors import SpanBufferError
from afterglow.ledger import BufferDropReason
from afterglow.model.segment import AddResult, BufferBooks, BufferedSpan, SegmentPart

if TYPE_CHECKING:
    from afterglow.buffer.connect import Nodes
    from afterglow.clock import Clock

__all__ = ["RedisBuffer"]


class RedisBuffer:
    """Spans of many processes, held in Redis; safe in many threads. See ports.SegmentBuffer.

    What `add` accepted survives the death of any process, and of a master where
    `wait_replicas` is at least 1 (the default on a cluster).
    """

    def __init__(
        self,
        nodes: Nodes,
        config: BufferConfig,
        *,
        role: str = "library",
        clock: Clock | None = None,
    ) -> None:
        from afterglow.buffer.control import Control
        from afterglow.buffer.opening import open_parts
        from afterglow.buffer.pressure import RedisPressure

        self._nodes = nodes
        self._closed = False
        self._parts = open_parts(nodes, config, clock)
        self._control = Control(nodes, config, role=role, clock=clock)
        self._pressure = RedisPressure(nodes, config, clock)

    @classmethod
    def from_url(
        cls,
        url: str,
        config: BufferConfig | None = None,
        *,
        role: str = "library",
        clock: Clock | None = None,
    ) -> Self:
        """Connect, and see that the server can hold spans.

        `redis://host:port` is one server, `redis+cluster://host:port,host:port` a cluster, and
        `rediss` the same with TLS; user and password stand before the host. Raises SettingError for
        what is no such URL, or a setting that is out of its limits, SpanBufferError for a server
        that is away, too old, or may evict keys, and MissingExtraError without the extra `redis`.
        """
        config = checked(config or BufferConfig())
        return cls(connect(str(url), config.redis_timeout_s), config, role=role, clock=clock)

    def add(self, spans: Sequence[BufferedSpan], now_ns: int) -> AddResult:
        """Take spans in, or refuse them as a value; the same call may be repeated.

        Raises SpanBufferError, with nothing taken in, for what is no BufferedSpan.
        """
        if self._closed:
            return AddResult(0, {}, len(spans), "the buffer is closed", 1.0)
        self._pressure.watch()
        with self._control.following() as now:
            if now.refusal is not None:
                return AddResult(0, {}, len(spans), now.refusal, now.retry_after_s)
            try:
                return self._parts.adder.add(spans, now_ns, self._parts.writers[now.phase])
            except (TypeError, ValueError, AttributeError):
                wrong = not_spans(spans)
                if wrong is None:
                    raise
                raise wrong from None

    def take_due(
        self,
        now_ns: int,
        *,
        owner: str,
        shards: Collection[int] | None = None,
        max_segments: int = 1_000,
        max_bytes: int = 32 << 20,
    ) -> Iterator[list[SegmentPart]]:
        """Pages of parts that are due, leased to `owner`. Raises SpanBufferError."""
        with self._control.following() as now:
            reader = self._parts.readers[now.phase]
            yield from self._parts.taker.take(
                now_ns, owner, shards, max_segments, max_bytes, reader
            )

    def acknowledge(
        self, parts: Sequence[SegmentPart], *, dropped: BufferDropReason | None = None
    ) -> int:
        """These parts are safe: forget them. Returns how many were still ours."""
        by_lease: dict[Any, list[str]] = {}
        for part in parts:
            by_lease.setdefault(self._lease_of(part), []).append(part.message_id)
        return self._parts.settler.acknowledge(list(by_lease.items()), dropped)

    def release(self, parts: Sequence[SegmentPart]) -> None:
        """Give leased parts back: the same parts are due again at once, for anybody."""
        self._parts.settler.release({self._lease_of(part) for part in parts})

    def ledger(self) -> BufferBooks:
        """The books of everything that shares this buffer."""
        return self._parts.ledger()

    def close(self) -> None:
        """Give connections back; what is held stays."""
        if self._closed:
            return
        self._closed = True
        self._control.leave()
        self._parts.router.close()
        self._nodes.close()

    def _lease_of(self, part: SegmentPart) -> Any:
        from afterglow.buffer.leases import LeasedPart

        if not isinstance(part, LeasedPart):
            raise SpanBufferError(
                "acknowledge and release take the parts that take_due gave, not copies of them"
            )
        return part.lease
