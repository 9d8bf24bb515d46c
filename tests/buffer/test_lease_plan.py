"""Sharing out shards: fair, complete, and with as little moving as can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afterglow.buffer.lease_plan import plan_shares, quota

HOSTS = st.sets(st.sampled_from([f"host{i}" for i in range(8)]), min_size=1)


@given(HOSTS, st.integers(1, 64))
def test_quotas_are_fair_and_cover_all(hosts: set[str], shards: int) -> None:
    shares = [quota(host, hosts, shards) for host in hosts]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


def settle(hosts: set[str], owners: list[str], order: list[str]) -> tuple[list[str], int]:
    """Let hosts look in turn until nothing changes; the owners, and how many shards moved."""
    moved = 0
    for _ in range(10):
        changed = False
        for host in order:
            plan = plan_shares(host, hosts, owners)
            for shard in plan.give_up:
                assert owners[shard] == host
                owners[shard] = ""
                changed = True
                moved += 1
            for shard in plan.take:
                assert not owners[shard]
                owners[shard] = host
                changed = True
        if not changed:
            return owners, moved
    raise AssertionError("never settles")


@given(HOSTS, HOSTS, st.integers(1, 64), st.randoms(use_true_random=False))
def test_hosts_that_join_and_leave(before: set[str], after: set[str], shards: int, random) -> None:  # type: ignore[no-untyped-def]
    order = sorted(before)
    random.shuffle(order)
    owners, _ = settle(before, [""] * shards, order)
    owners = [owner if owner in after else "" for owner in owners]
    had = list(owners)
    order = sorted(after)
    random.shuffle(order)
    owners, moved = settle(after, owners, order)
    counts = [owners.count(host) for host in after]
    assert sum(counts) == shards and max(counts) - min(counts) <= 1
    # Only what a host had above its share of now has moved.
    excess = sum(max(had.count(host) - quota(host, after, shards), 0) for host in after)
    assert moved == excess
