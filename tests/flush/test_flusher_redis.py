"""Flushers on a real Redis and a real cluster: killed at any call, away, full, and by hosts."""

from __future__ import annotations

import pytest

from afterglow.buffer.connect import Nodes, connect
from afterglow.buffer.shard_leases import ShardLeases
from afterglow.testing import ManualClock
from scripts.redis_cluster import SingleRedis
from tests.flush.rig import SPANS_A_TRACE, Killed, Mortal, Rig
from tests.flush.test_flusher import run

PAGE_BYTES = SPANS_A_TRACE * 110


@pytest.mark.parametrize("inline_bytes", [0, 1 << 15], ids=["spread", "inline"])
def test_killed_at_any_call(redis_url: str, inline_bytes: int) -> None:
    for call in range(1, 14):
        for before in (True, False):
            rig = Rig(
                url=redis_url,
                inline_bytes=inline_bytes,
                key_prefix=f"t{call}{before}",
                wait_replicas=0,
            )
            rig.add(*range(4), size=100)
            rig.due()
            mortal = Mortal(rig.buffer, rig.sink, call, before=before)
            victim = rig.flusher("victim", buffer=mortal, sink=mortal, page_bytes=PAGE_BYTES)
            with pytest.raises(Killed):
                run(victim)
            heir = rig.flusher("heir")
            run(heir)
            rig.clock.advance_s(rig.config.lease_s)
            run(heir)
            rig.check_all_out()
            rig.buffer.close()


def test_a_redis_that_dies_between_write_and_acknowledgement(redis_single: SingleRedis) -> None:
    """It is cut off, not emptied: what was written is not written again once it is back."""
    rig = Rig(url=redis_single.url, redis_timeout_s=0.5)
    rig.add(1, 2, 3)
    rig.due()
    flusher = rig.flusher()
    rig.sink.trouble = lambda _: redis_single.pause()  # type: ignore[func-returns-value]
    assert flusher.step() > 0
    assert "the buffer is away" in rig.said[0]
    rig.sink.trouble = lambda _: None
    redis_single.resume()
    run(flusher)
    rig.check_all_out()
    assert rig.sink.writes == 1
    rig.buffer.close()


def test_flushing_goes_on_when_redis_is_full(redis_url: str) -> None:
    rig = Rig(url=redis_url, wait_replicas=0, inline_bytes=0)
    rig.add(*range(20), size=1_000)
    rig.due()
    nodes = connect(redis_url, 5.0)
    for _, client in nodes.masters():
        client.config_set("maxmemory", 1)
    refused = rig.buffer.add([], rig.clock.wall_ns())
    assert refused.accepted == 0
    run(rig.flusher())
    rig.check_all_out()
    rig.buffer.close()
    nodes.close()


# --- hosts that share out the shards --------------------------------------------------------


class Hosts:
    """Hosts, each with a clock; a round lets each look once, all clocks a third of a lease on."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.shares: dict[str, ShardLeases] = {}
        self.clocks: dict[str, ManualClock] = {}

    def join(self, name: str, *, shards: int = 16, lease_s: float = 60.0) -> ShardLeases:
        self.clocks[name] = ManualClock()
        self.shares[name] = ShardLeases(
            self._nodes,
            host=name,
            key_prefix="span-buf",
            shards=shards,
            lease_s=lease_s,
            clock=self.clocks[name],
        )
        return self.shares[name]

    def rounds(self, n: int = 4) -> dict[str, int]:
        for _ in range(n):
            for name, share in self.shares.items():
                share.step(share.shards)
                self.clocks[name].advance_s(20.0)
        return {name: len(share.shards) for name, share in self.shares.items()}


@pytest.fixture
def hosts(redis_url: str):  # type: ignore[no-untyped-def]
    nodes = connect(redis_url, 5.0)
    yield Hosts(nodes)
    nodes.close()


def test_one_host_has_all_shards(hosts: Hosts) -> None:
    hosts.join("a")
    assert hosts.rounds(1) == {"a": 16}


def test_two_hosts_share_and_the_last_one_has_all_again(hosts: Hosts) -> None:
    hosts.join("a")
    hosts.rounds()
    hosts.join("b")
    assert hosts.rounds() == {"a": 8, "b": 8}
    assert hosts.shares["a"].shards.isdisjoint(hosts.shares["b"].shards)
    hosts.join("c")
    assert sorted(hosts.rounds().values()) == [5, 5, 6]
    hosts.shares.pop("b").leave()
    assert hosts.rounds() == {"a": 8, "c": 8}
    hosts.shares.pop("a").leave()
    assert hosts.rounds() == {"c": 16}


def test_a_host_that_dies_loses_its_shards_with_its_lease(hosts: Hosts, redis_url: str) -> None:
    hosts.join("a")
    hosts.join("b")
    assert hosts.rounds() == {"a": 8, "b": 8}
    dead = hosts.shares.pop("a")
    nodes = connect(redis_url, 5.0)
    for shard in dead.shards:  # as the end of the lease does
        assert 0 < nodes.client.pttl(f"span-buf:ctl:{{ctl}}:shard:16:{shard}") <= 60_000
        nodes.client.delete(f"span-buf:ctl:{{ctl}}:shard:16:{shard}")
    nodes.client.zrem("span-buf:ctl:{ctl}:hosts:16", "a")
    nodes.close()
    assert hosts.rounds() == {"b": 16}


def test_a_shard_that_is_still_worked_on_is_given_up_later(hosts: Hosts) -> None:
    a = hosts.join("a")
    hosts.rounds()
    hosts.join("b")
    everything = frozenset(range(16))
    for _ in range(4):  # a's flushers do not finish
        a.step(everything)
        hosts.clocks["a"].advance_s(20)
        hosts.shares["b"].step(())
        hosts.clocks["b"].advance_s(20)
    assert len(a.shards) == 8 and hosts.shares["b"].shards == frozenset()
    assert hosts.rounds() == {"a": 8, "b": 8}


def test_hosts_with_other_numbers_of_shards_cover_the_queue_each(hosts: Hosts) -> None:
    hosts.join("old", shards=16)
    hosts.join("new", shards=4)
    assert hosts.rounds() == {"old": 16, "new": 4}


def test_a_redis_that_is_away_takes_the_shards_with_the_lease(redis_single: SingleRedis) -> None:
    nodes = connect(redis_single.url, 0.5)
    hosts = Hosts(nodes)
    a = hosts.join("a")
    hosts.rounds(1)
    redis_single.kill()
    assert len(a.step(())) == 16
    hosts.clocks["a"].advance_s(61)
    assert a.step(()) == frozenset()
    redis_single.restart()
    hosts.clocks["a"].advance_s(21)
    assert len(a.step(())) == 16
    a.leave()
    nodes.close()


def test_changing_the_number_of_shards_loses_nothing(redis_url: str) -> None:
    """Added under 16 shards, flushed by flushers of 4 and of 16 at once."""
    rig = Rig(url=redis_url, shards=16, wait_replicas=0)
    other = Rig(url=redis_url, shards=4, wait_replicas=0)
    other.clock, other.sink = rig.clock, rig.sink
    rig.add(*range(30))
    rig.due()
    flushers = [
        *(rig.flusher(f"a{i}", shards=range(i, 16, 4), max_segments=2) for i in range(4)),
        *(other.flusher(f"b{i}", shards=[i], max_segments=2) for i in range(4)),
    ]
    for _ in range(100):
        for flusher in flushers:
            flusher.step()
        if not rig.buffer.ledger().held:
            break
    rig.check_all_out()
    assert len(rig.sink.parts) == 30
    rig.buffer.close()
    other.buffer.close()
