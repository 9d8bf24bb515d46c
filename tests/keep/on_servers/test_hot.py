"""The hot tier: copies that are right, on one Redis and on a cluster, whatever happens to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from afterglow.errors import SettingError
from afterglow.keep.backend import Changes, Coactivation, Put, Selection, Totals
from afterglow.keep.entry import Links, Moment, Record
from afterglow.keep.redis.copies import Copy
from afterglow.keep.redis.keys import Bucket
from afterglow.keep.redis.nodes import Nodes
from scripts.redis_cluster import RedisCluster, SingleRedis
from scripts.redis_server import RedisNode
from tests.keep.on_servers.conftest import Hot
from tests.keep.on_servers.entries import fresh, record

Opener = Callable[..., Hot]
Servers = SingleRedis | RedisCluster


def nodes_of(servers: Servers) -> list[RedisNode]:
    """Those that hold keys."""
    return [servers] if isinstance(servers, SingleRedis) else list(servers.masters())


def keys_of(servers: Servers) -> Iterator[tuple[RedisNode, bytes]]:
    for node in nodes_of(servers):
        yield from ((node, key) for key in node.keys("*"))


def some(number: int, **values: Any) -> list[Record]:
    return [record(f"e{n}", **values) for n in range(number)]


def test_what_was_read_once_comes_from_redis(open_hot: Opener) -> None:
    hot = open_hot()
    entries = some(200, tags=("a", "ü\0"), payload=b"\0\xff", embedding=b"8" * 8)
    hot.backend.apply(fresh(*entries), 1)
    names = [entry.trace_id for entry in entries]
    assert hot.counted(lambda: hot.read(*names)) == {"hot_misses": 200, "hot_fills": 200}
    assert hot.counted(lambda: hot.read(*names, "not there")) == {"hot_hits": 200, "hot_misses": 1}
    found = hot.backend.read(names, links=True)
    assert found == hot.postgres.read(names, links=True)
    assert hot.backend.read(names, links=False) == hot.postgres.read(names, links=False)
    assert not hot.reports


def test_every_key_lives_for_the_time_to_live_at_most(
    open_hot: Opener, redis_servers: Servers
) -> None:
    hot = open_hot()
    entries = some(50)
    hot.backend.apply(fresh(*entries), 1)
    hot.read(*(entry.trace_id for entry in entries))
    hot.backend.apply(Changes(touched=entries[:10]), 2)
    keys = list(keys_of(redis_servers))
    assert len([key for _, key in keys if b":entry:" in key]) == 50
    for node, key in keys:
        assert key.startswith(b"afterglow:keep:{")
        assert 0 < node.client.pttl(key) <= 86_400_000


def test_the_index_names_what_was_filled_by_time(open_hot: Opener, redis_servers: Servers) -> None:
    hot = open_hot(ttl_s=60.0)
    hot.backend.apply(fresh(*some(300)), 1)
    hot.read(*(f"e{n}" for n in range(300)))
    named = set()
    for node, key in keys_of(redis_servers):
        if key.endswith(b":filled"):
            for entry, filled_ms in node.client.zrange(key, 0, -1, withscores=True):
                assert filled_ms > 1_600_000_000_000
                named.add(entry)
            # As if a minute ago: the next fill forgets them.
            node.client.zadd(key, {b"old": 1_600_000_000_000})
    assert named == {key for _, key in keys_of(redis_servers) if b":entry:" in key}
    hot.backend.apply(fresh(*some(300)), 2)
    hot.read(*(f"e{n}" for n in range(300)))
    for node, key in keys_of(redis_servers):
        if key.endswith(b":filled"):
            assert node.client.zscore(key, b"old") is None


CHANGES: dict[str, Callable[[Hot], object]] = {
    "put": lambda hot: hot.backend.apply(Changes(puts=[Put(record("a", payload="2"))]), 2),
    "fresh put": lambda hot: hot.backend.apply(fresh(record("a", payload="2")), 2),
    "touch": lambda hot: hot.backend.apply(Changes(touched=[record("a", anchor=0.9)]), 2),
    "delete": lambda hot: hot.backend.apply(Changes(gone=["a"]), 2),
    "link": lambda hot: hot.backend.apply(Changes(links=[Coactivation("a", "b", 3)]), 2),
    "delete a neighbour": lambda hot: hot.backend.apply(Changes(gone=["linked"]), 2),
    "delete its child": lambda hot: hot.backend.apply(Changes(gone=["child"]), 2),
    "delete its parent": lambda hot: hot.backend.apply(Changes(gone=["parent"]), 2),
    "a new child": lambda hot: hot.backend.apply(fresh(record("c2", parent_id="a")), 2),
    "child moves": lambda hot: hot.backend.apply(Changes(puts=[Put(record("child"))]), 2),
    "erase": lambda hot: hot.backend.erase(Selection("kind", "semantic"), 2),
    "evict": lambda hot: hot.backend.evict(0, 0, "lru", [], 2),
    "fade": lambda hot: hot.backend.advance(lambda totals: (1 << 62, 2, 0), 2),
    "replace": lambda hot: hot.backend.replace(iter([[record("a", payload="3")]]), Moment(), 2),
}


@pytest.mark.parametrize("away", [False, True], ids=["", "while Redis is away for the writer"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_another_process_is_seen(open_hot: Opener, change: str, away: bool) -> None:
    reader, writer = open_hot(), open_hot()
    writer.backend.apply(
        fresh(
            record("a", parent_id="parent", curve="exponential", decay_rate=1.0),
            *(record(name) for name in ("b", "linked", "parent")),
            record("child", parent_id="a"),
        ),
        1,
    )
    writer.backend.apply(Changes(links=[Coactivation("a", "linked", 3)]), 1)
    names = ["a", "b", "linked", "child", "parent"]
    for hot in (reader, writer):
        hot.read(*names)
        assert hot.counted(lambda hot=hot: hot.read(*names)) == {"hot_hits": 5}
    if away:
        writer.tier.trouble(redis.ConnectionError("cut"))
    CHANGES[change](writer)
    assert writer.backend.read(names, links=True) == writer.postgres.read(names, links=True)
    if away or change == "replace":
        # What was not marked is seen with the next look at the partition's row.
        reader.clock.advance_s(1.001)
    found, right = reader.backend.read(names, links=True), reader.postgres.read(names, links=True)
    assert (found.records, found.links) == (right.records, right.links)
    reader.clock.advance_s(1.001)
    assert reader.backend.read(names, links=True) == right


def test_a_reader_that_was_overtaken_fills_nothing_in(open_hot: Opener) -> None:
    reader, writer = open_hot(), open_hot()
    writer.backend.apply(fresh(record("a", payload="1")), 1)
    seen = reader.postgres.look(["a"], links=True)
    writer.backend.apply(Changes(puts=[Put(record("a", payload="2"))]), 2)
    copies = {"a": Copy(seen.found.records["a"], Links())}

    def fill() -> None:
        reader.tier.fill(seen.partition_id, seen.version, seen.epoch, copies)

    assert reader.counted(fill) == {"hot_stale": 1}
    assert reader.read("a")["a"].payload == "2"
    assert reader.read("a")["a"].payload == "2"
    assert reader.counted(fill) == {"hot_stale": 1}


def test_a_mark_comes_before_the_commit_so_that_who_dies_between_leaves_no_old_copy(
    open_hot: Opener,
) -> None:
    reader, writer = open_hot(), open_hot()
    writer.backend.apply(fresh(record("a", payload="1")), 1)
    reader.read("a")
    told = writer.backend.changing

    def changing(*arguments: Any) -> bool:
        assert told(*arguments)
        # Before the commit: read from PostgreSQL, and not filled in.
        assert reader.counted(lambda: reader.read("a")) == {"hot_misses": 1, "hot_stale": 1}
        return True

    writer.postgres.watch(
        type("Watcher", (), {"changing": staticmethod(changing), "changed": lambda *_: None})()
    )
    writer.backend.apply(Changes(puts=[Put(record("a", payload="2"))]), 2)
    assert reader.read("a")["a"].payload == "2"


def test_a_tick_by_another_process_is_seen_within_a_second(open_hot: Opener) -> None:
    reader, writer = open_hot(), open_hot()
    writer.backend.apply(fresh(record("a")), 1)
    reader.read("a")
    writer.backend.advance(lambda totals: (3, 60, 0), 60)
    assert writer.backend.read(["a"], links=False).moment.tick == 3
    reader.clock.advance_s(1.001)
    assert reader.backend.read(["a"], links=False).moment == Moment(3, 60, 60)
    assert reader.counted(lambda: reader.read("a")) == {"hot_hits": 1}


# --- when Redis does not do its part ------------------------------------------------------


@pytest.mark.parametrize("redis_servers", ["single"], indirect=True)
def test_while_redis_is_killed_all_goes_on_and_nothing_old_comes_back(
    open_hot: Opener, redis_single: SingleRedis
) -> None:
    hot, other = open_hot(), open_hot()
    hot.backend.apply(fresh(*some(20)), 1)
    hot.read("e0")
    other.read("e0")
    redis_single.ask("SAVE")
    redis_single.kill()
    hot.backend.apply(Changes(puts=[Put(record("e0", payload="2"))]), 2)
    assert hot.read("e0")["e0"].payload == "2"
    assert hot.tier.counted["hot_troubles"] >= 1
    assert len(hot.reports) == 1
    assert "PostgreSQL" in hot.reports[0]
    redis_single.restart()
    for each in (hot, other):
        each.clock.advance_s(10)
        assert each.read("e0")["e0"].payload == "2"
        each.read("e0")
        assert each.counted(lambda each=each: each.read("e0"))["hot_hits"] == 1


@pytest.mark.parametrize("redis_servers", ["single"], indirect=True)
def test_a_redis_that_comes_back_with_an_old_disk_serves_nothing_old(
    open_hot: Opener, redis_single: SingleRedis
) -> None:
    hot, other = open_hot(), open_hot()
    hot.backend.apply(fresh(*some(20)), 1)
    for each in (hot, other):
        each.read("e0")
    redis_single.ask("SAVE")
    hot.backend.apply(Changes(puts=[Put(record("e0", payload="2"))]), 2)
    # The mark is not on the disk; the copy is.
    redis_single.kill()
    redis_single.restart()
    assert redis_single.keys("*:entry:e0"), "the old copy is back"
    for each in (hot, other):
        for _ in range(3):
            assert each.read("e0")["e0"].payload == "2"
            each.clock.advance_s(10)
        assert each.counted(lambda each=each: each.read("e0")) == {"hot_hits": 1}


def test_a_paused_redis_costs_its_timeout_once_in_a_while(
    open_hot: Opener, redis_servers: Servers
) -> None:
    hot = open_hot(timeout_s=0.05)
    hot.backend.apply(fresh(*some(100)), 1)
    names = [f"e{n}" for n in range(100)]
    hot.read(*names)
    paused = nodes_of(redis_servers)
    for node in paused:
        node.pause()
    try:
        for n in range(20):
            hot.backend.apply(Changes(touched=some(100, anchor=n / 100)), n)
            assert hot.read(*names)["e7"].anchor == n / 100
        assert hot.tier.counted["hot_troubles"] == 1, "it rests, rather than wait each time"
        hot.clock.advance_s(59)
        hot.read(*names)
        assert len(hot.reports) == 1
        hot.clock.advance_s(59)
        hot.read(*names)
        assert len(hot.reports) == 2
    finally:
        for node in paused:
            node.resume()


def test_a_full_redis_makes_room_or_does_without(open_hot: Opener, redis_servers: Servers) -> None:
    hot = open_hot()
    hot.backend.apply(fresh(*some(500, payload="x" * 2_000)), 1)
    names = [f"e{n}" for n in range(500)]
    hot.read(*names)
    for node in nodes_of(redis_servers):
        node.fill_memory(0)
    hot.backend.apply(Changes(touched=some(500, anchor=0.9)), 2)
    for _ in range(3):
        found = hot.read(*names)
        assert {entry.anchor for entry in found.values()} == {0.9}
        hot.clock.advance_s(10)
    assert hot.tier.counted["hot_room"] > 0
    for node in nodes_of(redis_servers):
        node.free_memory()
    hot.clock.advance_s(10)
    hot.read(*names)
    assert hot.counted(lambda: hot.read(*names))["hot_hits"] == 500


def test_scripts_that_are_gone_and_values_of_others_do_no_harm(
    open_hot: Opener, redis_servers: Servers
) -> None:
    hot = open_hot()
    hot.backend.apply(fresh(*some(100)), 1)
    names = [f"e{n}" for n in range(100)]
    hot.read(*names)
    for node in nodes_of(redis_servers):
        node.client.script_flush()
    hot.backend.apply(Changes(touched=some(100, anchor=0.9)), 2)
    for node in nodes_of(redis_servers):
        node.client.script_flush()
    assert {entry.anchor for entry in hot.read(*names).values()} == {0.9}
    assert hot.counted(lambda: hot.read(*names)) == {"hot_hits": 100}
    junk = itertools.cycle([b"junk", b"1:0:junk", b"", b"::", b"9:9:9"])
    for node, key in keys_of(redis_servers):
        if b":entry:" in key:
            node.client.set(key, next(junk), px=60_000)
    assert {entry.anchor for entry in hot.read(*names).values()} == {0.9}
    assert hot.tier.counted["hot_troubles"] > 0
    hot.clock.advance_s(10)
    hot.read(*names)
    assert {entry.anchor for entry in hot.read(*names).values()} == {0.9}


@pytest.mark.parametrize("redis_servers", ["cluster"], indirect=True)
def test_a_cluster_that_fails_over_serves_nothing_old(
    open_hot: Opener, redis_cluster: RedisCluster
) -> None:
    hot, other = open_hot(), open_hot()
    hot.backend.apply(fresh(*some(100)), 1)
    names = [f"e{n}" for n in range(100)]
    for each in (hot, other):
        each.read(*names)
    gone = redis_cluster.masters()[0]
    redis_cluster.kill(gone)
    hot.backend.apply(Changes(touched=some(100, anchor=0.9)), 2)
    assert {entry.anchor for entry in hot.read(*names).values()} == {0.9}
    redis_cluster.wait_promoted(gone)
    for each in (hot, other):
        for _ in range(3):
            each.clock.advance_s(10)
            assert {entry.anchor for entry in each.read(*names).values()} == {0.9}
        assert each.counted(lambda each=each: each.read(*names)) == {"hot_hits": 100}


# --- names and URLs -------------------------------------------------------------------------


def test_databases_and_partitions_do_not_meet(open_hot: Opener) -> None:
    one, other = open_hot("one"), open_hot("other")
    one.backend.apply(fresh(record("a", payload="1")), 1)
    other.backend.apply(fresh(record("a", payload="2")), 1)
    for _ in range(2):
        assert one.read("a")["a"].payload == "1"
        assert other.read("a")["a"].payload == "2"
    assert Bucket("x", 1, 2).entry("a") != Bucket("y", 1, 2).entry("a")
    other.backend.erase(Selection(), 2, "one")
    assert one.read("a") == {}
    assert one.backend.totals() == Totals(
        changed_at=2, ingested=1, moment=one.backend.totals().moment
    )


@pytest.mark.parametrize(
    "url", ["http://x", "redis+cluster://", "redis+cluster://h:port", "redis://h:port", "nothing"]
)
def test_a_wrong_url_is_a_setting_error(url: str) -> None:
    with pytest.raises(SettingError, match="it takes redis://") as caught:
        Nodes(url, timeout_s=1, connected=lambda *_: None)
    assert "\n" not in str(caught.value)
