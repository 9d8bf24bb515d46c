"""Profiles: the kinds of entry that a store takes, and how each fades. Plain values."""

from __future__ import annotations

from math import log
from typing import Final, Literal

import msgspec

from afterglow.keep.decay import Curve

__all__ = ["MEMORY", "ORIGINS", "SPANS", "Kind", "Profile", "QuotaPolicy"]

ORIGINS: Final = ("firmware", "direct_experience", "mesh_transfer", "imprint")

#: Who goes first where there is no room: used longest ago, least sure, or next to fade anyway.
QuotaPolicy = Literal["lru", "lowest_confidence", "soonest"]


class Kind(msgspec.Struct, frozen=True):
    """How entries of one kind begin and fade.

    `decay_rate` is per tick, on `curve`; 0 never fades, and refuses to be reinforced. `start`
    is the strength (0 to 1) and confidence the confidence of a new entry. A quota never evicts
    entries of a `protected` kind.
    """

    decay_rate: float
    start: float
    curve: Curve = "power"
    confidence: float = 0.5
    protected: bool = False


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of a store, what a tick is, and its quota.

    A tick is `tick_s` seconds of wall time; or, with `tick_entries`, that many stored entries,
    so that an idle store does not fade.
    """

    name: str
    kinds: dict[str, Kind]
    tick_s: float = 60.0
    tick_entries: int | None = None
    max_entries: int = 10_000
    max_payload_bytes: int = 52_428_800
    quota_policy: QuotaPolicy = "lru"


def _lasting(half_life_days: float, start: float) -> Kind:
    """A kind of which half is left after so many days of ticks of a minute."""
    return Kind(log(2) / (half_life_days * 1440), start, "exponential")


#: For an agent's memory.
MEMORY: Final = Profile(
    name="memory",
    kinds={
        "firmware": Kind(0.000, 1.0, confidence=1.0, protected=True),
        "identity": Kind(0.001, 1.0),
        "procedural": Kind(0.005, 0.4),
        "trust": Kind(0.008, 0.3),
        "semantic": Kind(0.010, 0.5),
        "episodic": Kind(0.020, 0.6),
        "sensory": Kind(0.100, 0.4),
    },
)

#: For recorded traces. A power law would keep them practically for ever: these have half lives.
SPANS: Final = Profile(
    name="spans",
    kinds={
        "pinned": Kind(0.0, 1.0, protected=True),
        "open": Kind(0.0, 1.0, protected=True),  # goes on: fading begins when it has ended
        "error": _lasting(14.0, 0.9),
        "slow": _lasting(7.0, 0.8),
        "normal": _lasting(2.0, 0.5),
        "routine": _lasting(0.5, 0.3),
    },
    quota_policy="soonest",
    max_entries=1_000_000,
    max_payload_bytes=1 << 40,
)
