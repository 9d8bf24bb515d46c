"""Profiles: the kinds of entry that a store takes, and how each fades. Plain values."""

from __future__ import annotations

from math import log
from typing import Final, Literal, get_args

import msgspec

from afterglow.errors import SettingError
from afterglow.keep.decay import Curve

__all__ = ["MEMORY", "ORIGINS", "SPANS", "Kind", "Profile", "QuotaPolicy"]

ORIGINS: Final = ("firmware", "direct_experience", "mesh_transfer", "imprint")

#: Who goes first where there is no room: used longest ago, least sure, or next to fade anyway.
QuotaPolicy = Literal["lru", "lowest_confidence", "soonest"]

_MOST: Final = 1 << 62
_LONGEST_TICK_S: Final = 1e9
_HIGHEST_RATE: Final = 1e9


class Kind(msgspec.Struct, frozen=True):
    """How entries of one kind begin and fade.

    `decay_rate` is per tick, on `curve`; 0 never fades, and refuses to be reinforced. `start`
    is the strength (0 to 1) and confidence the confidence of a new entry. A quota never evicts
    entries of a `protected` kind. Raises SettingError.
    """

    decay_rate: float
    start: float
    curve: Curve = "power"
    confidence: float = 0.5
    protected: bool = False

    def __post_init__(self) -> None:
        _check("decay_rate", self.decay_rate, 0.0, _HIGHEST_RATE)
        _check("start", self.start, 0.0, 1.0)
        _check("confidence", self.confidence, 0.0, 1.0)
        _check_one_of("curve", self.curve, get_args(Curve))


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of a store, what a tick is, and its quota.

    A tick is `tick_s` seconds of wall time; or, with `tick_entries`, that many stored entries,
    so that an idle store does not fade. Raises SettingError.
    """

    name: str
    kinds: dict[str, Kind]
    tick_s: float = 60.0
    tick_entries: int | None = None
    max_entries: int = 10_000
    max_payload_bytes: int = 52_428_800
    quota_policy: QuotaPolicy = "lru"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SettingError(f"name={self.name!r} is no name for a profile")
        if not isinstance(self.kinds, dict):
            raise SettingError(f"kinds={self.kinds!r} is no dict of names and Kind(...)")
        for name, kind in self.kinds.items():
            if not (isinstance(name, str) and name and isinstance(kind, Kind)) or "\0" in name:
                raise SettingError(
                    f"kinds={{{name!r}: {kind!r}}} is no dict of names and Kind(...)"
                )
        _check("tick_s", self.tick_s, 1e-9, _LONGEST_TICK_S)
        if self.tick_entries is not None:
            _check("tick_entries", self.tick_entries, 1, _MOST)
        _check("max_entries", self.max_entries, 0, _MOST)
        _check("max_payload_bytes", self.max_payload_bytes, 0, _MOST)
        _check_one_of("quota_policy", self.quota_policy, get_args(QuotaPolicy))


def _check(name: str, value: object, low: float, high: float) -> None:
    """A number within bounds, both included; a whole one, where the lower bound is one."""
    kinds = int if isinstance(low, int) else int | float
    # NaN is within no bounds.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if isinstance(low, int) else "a number"
        raise SettingError(f"{name}={value!r} is not {what} from {low:,} to {high:,}")


def _check_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(f"unknown {name} {value!r}: there are {', '.join(known)}")


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
