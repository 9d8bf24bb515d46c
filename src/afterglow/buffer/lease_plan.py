"""Pure rules of sharing out shards: which ones a host takes, and which it gives up.

Every host gets the floor or the ceiling of shards / hosts, those that sort first the ceiling.
A host gives up no more than it has too many, so that a host that joins or leaves moves as few
shards as can be. Two owners of a shard for a moment lose nothing: sealing is what is exclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

__all__ = ["SharePlan", "plan_shares", "quota"]


class SharePlan(NamedTuple):
    """`take` are free shards to ask for; `give_up` ours to finish with, then drop."""

    take: frozenset[int]
    give_up: frozenset[int]


def quota(host: str, hosts: Collection[str], shards: int) -> int:
    """How many of the shards are this host's, of all hosts that are there (it is one of them)."""
    everyone = sorted({*hosts, host})
    each, more = divmod(shards, len(everyone))
    return each + (everyone.index(host) < more)


def plan_shares(host: str, hosts: Collection[str], owners: Sequence[str]) -> SharePlan:
    """What to change; `owners[shard]` is a host, or '' for none."""
    wanted = quota(host, hosts, len(owners))
    ours = [shard for shard, owner in enumerate(owners) if owner == host]
    free = [shard for shard, owner in enumerate(owners) if not owner]
    # Hosts that look at the same moment begin in different places.
    begin = sorted({*hosts, host}).index(host) * len(free) // len({*hosts, host}) if free else 0
    turned = free[begin:] + free[:begin]
    take = turned[: max(wanted - len(ours), 0)]
    return SharePlan(frozenset(take), frozenset(ours[wanted:]))
