"""Back-pressure from end to end: a flusher that is behind makes `add` refuse, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from afterglow.buffer.connect import Nodes, connect
from afterglow.buffer.pressure import PRESSURE_S, RedisPressure
from afterglow.buffer.redis import RedisBuffer
from afterglow.config import BufferConfig, FlushConfig
from afterglow.errors import SinkUnavailableError
from afterglow.flush.flusher import Flusher
from afterglow.testing import ManualClock
from tests.flush.rig import Noting, spans_of
from tests.flush.test_flusher import run

CONFIG = BufferConfig(wait_replicas=0)
KEY = "span-buf:ctl:{ctl}:pressure"


class Site:
    """A collector and a flusher, two processes with one clock."""

    def __init__(self, url: str, nodes: Nodes) -> None:
        self.clock = ManualClock()
        self.nodes = nodes
        self.collector = RedisBuffer.from_url(url, CONFIG, clock=self.clock)
        self.buffer = RedisBuffer.from_url(url, CONFIG, clock=self.clock)
        self.sink = Noting()
        self.flusher = Flusher(
            self.buffer,
            self.sink,
            owner="a",
            clock=self.clock,
            config=FlushConfig(),
            pressure=RedisPressure(nodes, CONFIG, self.clock),
            report=lambda _: None,
            chance=lambda: 1.0,
        )

    def refusal(self, trace: int) -> str | None:
        """Why the collector's next batch is refused, a second later; None if it is not."""
        self.clock.advance_s(1)
        result = self.collector.add(spans_of(trace), self.clock.wall_ns())
        if result.reason is None:
            assert result.accepted == 3
        else:
            assert (result.accepted, result.refused) == (0, 3)
            assert 0 < result.retry_after_s <= PRESSURE_S
        return result.reason

    def over(self) -> None:
        """Let the word of it end, as its TTL does."""
        assert 0 < self.nodes.client.pttl(KEY) <= PRESSURE_S * 1_000
        self.nodes.client.delete(KEY)


@contextmanager
def site(url: str) -> Iterator[Site]:
    nodes = connect(url, 5.0)
    built = Site(url, nodes)
    yield built
    built.collector.close()
    built.buffer.close()
    nodes.close()


def test_a_sink_that_is_away_and_comes_back(redis_url: str) -> None:
    with site(redis_url) as here:
        assert here.refusal(1) is None
        here.clock.advance_s(60)
        here.sink.trouble = lambda _: SinkUnavailableError("gone")
        for _ in range(3):
            here.clock.advance_s(here.flusher.step())
        assert here.refusal(2) is None  # not yet for ten seconds
        for _ in range(3):
            here.clock.advance_s(here.flusher.step())
        refused = here.refusal(3)
        assert refused == "flusher a is behind: the sink is away, gone"
        here.sink.trouble = lambda _: None
        here.clock.advance_s(60)
        run(here.flusher)  # flushing goes on while ingest is refused
        assert len(here.sink.spans()) == 6
        here.over()
        assert here.refusal(3) is None


def test_a_redis_that_is_nearly_full(redis_url: str) -> None:
    with site(redis_url) as here:
        assert here.refusal(1) is None
        for _, client in here.nodes.masters():
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
        here.clock.advance_s(60)
        run(here.flusher)
        refused = here.refusal(2)
        assert refused is not None and "of its maxmemory" in refused
        assert len(here.sink.spans()) == 3
        for _, client in here.nodes.masters():
            client.config_set("maxmemory", 0)
        here.clock.advance_s(2)
        run(here.flusher)
        here.over()
        assert here.refusal(2) is None
