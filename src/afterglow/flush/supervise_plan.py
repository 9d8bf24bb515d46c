"""Pure rules of the supervisor: who is hung, when one is started again, when to give up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

import msgspec

from afterglow.config import FlushConfig
from afterglow.flush.backoff import back_off_s

__all__ = ["MOST_DEATHS", "Life", "begun", "died", "heard", "is_hung", "shares"]

#: More deaths in a row than this end the service.
MOST_DEATHS: Final = 10


class Life(msgspec.Struct, frozen=True):
    """What is known of one flusher process, present or next. Times are monotonic ns."""

    state: Literal["waiting", "starting", "healthy"] = "waiting"
    #: When the present state began; for `waiting`, when the process is to be started.
    since_ns: int = 0
    heard_ns: int = 0
    #: Deaths in a row.
    deaths: int = 0


def begun(life: Life, now_ns: int) -> Life:
    """Its process was just started."""
    return msgspec.structs.replace(life, state="starting", since_ns=now_ns, heard_ns=now_ns)


def heard(life: Life, now_ns: int) -> Life:
    """It gave a sign of life."""
    since_ns = life.since_ns if life.state == "healthy" else now_ns
    return msgspec.structs.replace(life, state="healthy", since_ns=since_ns, heard_ns=now_ns)


def is_hung(life: Life, now_ns: int, config: FlushConfig) -> bool:
    """Whether it has been silent for too long, so that it must be killed."""
    if life.state == "waiting":
        return False
    limit_s = config.hung_s if life.state == "healthy" else config.start_timeout_s
    return now_ns - life.heard_ns >= limit_s * 1e9


def died(life: Life, now_ns: int, config: FlushConfig, chance: float) -> Life:
    """Its process is gone: when the next one is to be started, and the how manieth death it was.

    A flusher that was healthy for `steady_s` begins its count anew.
    """
    steady = life.state == "healthy" and now_ns - life.since_ns >= config.steady_s * 1e9
    deaths = 1 if steady else life.deaths + 1
    wait_s = back_off_s(config.retry_s, deaths, chance)
    return Life("waiting", now_ns + round(wait_s * 1e9), now_ns, deaths)


def shares(shards: Collection[int], flushers: int) -> list[frozenset[int]]:
    """Which of a host's shards each flusher works on: the ith of them goes to flusher i mod n."""
    ordered = sorted(shards)
    return [frozenset(ordered[i::flushers]) for i in range(flushers)]
