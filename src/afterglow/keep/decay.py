"""The rules of fading, as pure functions of values: nothing here reads a clock or a file.

Strength is a closed form of an entry's anchor (its strength when it was last reinforced), its
rate, its intensity and the ticks that went by since. So nothing has to be written for an entry
to fade, and the tick at which it crosses a threshold can be worked out beforehand. The
constants are Afterglow's own; tests/keep holds exact values for each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, exp, isnan, log, log2
from typing import Any, Final, Literal

import msgspec

__all__ = [
    "ARCHIVE_AT",
    "AUTO_FIRE_AT",
    "FARTHEST_TICK",
    "HOT_S",
    "PRUNE_AT",
    "WARM_S",
    "Curve",
    "crossing",
    "faded",
    "half_life",
    "intensity",
    "reinforced",
    "score",
    "strength",
    "tier",
    "valence",
]

Curve = Literal["power", "exponential"]
Tier = Literal["hot", "warm", "cold", "erased"]

PRUNE_AT: Final = 0.01
ARCHIVE_AT: Final = 0.05
AUTO_FIRE_AT: Final = 0.85
#: Ages since the last reinforcement, in seconds: a day, ninety days.
HOT_S: Final = 86_400
WARM_S: Final = 7_776_000
#: What would fade later than this never does (and a 64-bit column holds it).
FARTHEST_TICK: Final = 1 << 62

_EMOTION_SLOWS: Final = 0.3
_REINFORCEMENT: Final = 0.10
_IMPRINTING: Final = 3
_SCORE_HALF_LIFE_S: Final = 3_600
_ASSOCIATED_BONUS: Final = 1.15
_VALENCE_KEYS: Final = ("valence", "emotional_valence", "sentiment", "polarity", "score")


def _clamp01(value: float) -> float:
    return min(1.0, max(0.0, value))


def strength(peak: float, rate: float, ticks: int, intensity: float) -> float:
    """What is left of `peak` after `ticks` without access, 0 to 1: a power law.

    A rate of 0 never fades; a high intensity (0 to 1) slows fading by up to 30 %.
    """
    if rate == 0:
        return peak
    if peak == 0:
        return 0.0
    return _clamp01(peak * (ticks + 1) ** (-rate / (1 + _EMOTION_SLOWS * intensity)))


def faded(curve: Curve, anchor: float, rate: float, ticks: int, intensity: float) -> float:
    """Strength by either curve; `exponential` loses the share 1 - e**-rate with each tick."""
    if curve == "power":
        return strength(anchor, rate, ticks, intensity)
    return _clamp01(anchor * exp(-rate * ticks / (1 + _EMOTION_SLOWS * intensity)))


def reinforced(strength: float, imprinting: bool) -> float:
    """Strength after a use: + 0.10, or + 0.30 while imprinting, at most 1."""
    return _clamp01(strength + _REINFORCEMENT * (_IMPRINTING if imprinting else 1))


def score(strength: float, age_s: float, intensity: float, associated: bool) -> float:
    """How well an entry fits a retrieval: it halves with each hour of age."""
    recent: float = 2 ** (-max(age_s, 0) / _SCORE_HALF_LIFE_S)
    value = strength * recent * (1 + intensity)
    return value * _ASSOCIATED_BONUS if associated else value


def tier(strength: float, age_s: float) -> Tier:
    """Where an entry belongs by the seconds since its last reinforcement."""
    if strength <= PRUNE_AT:
        return "erased"
    if age_s <= HOT_S:
        return "hot"
    return "warm" if age_s <= WARM_S else "cold"


def crossing(
    curve: Curve, anchor: float, rate: float, intensity: float, threshold: float = PRUNE_AT
) -> int | None:
    """The first tick (0 is the anchor's own) at which strength <= threshold; None beyond reach."""
    if anchor <= threshold:
        return 0
    if rate <= 0 or threshold <= 0:
        return None
    slowed = rate / (1 + _EMOTION_SLOWS * intensity)
    fall = log(anchor / threshold) / slowed
    if curve == "power":
        if fall >= log(FARTHEST_TICK):
            return None
        guess = exp(fall) - 1
    else:
        guess = fall
    if guess >= FARTHEST_TICK:
        return None
    # The closed form is right but for rounding: the formula itself has the last word.
    slack = ceil(guess * 1e-9) + 2
    low, high = max(0, int(guess) - slack), min(FARTHEST_TICK, ceil(guess) + slack)
    while low < high:
        middle = (low + high) // 2
        if faded(curve, anchor, rate, middle, intensity) <= threshold:
            high = middle
        else:
            low = middle + 1
    return low


def half_life(curve: Curve, rate: float, intensity: float = 0.0) -> float | None:
    """Ticks after which half is left; None where that is beyond reach. For people and docs."""
    if rate <= 0:
        return None
    slowed = rate / (1 + _EMOTION_SLOWS * intensity)
    if curve == "exponential":
        return log(2) / slowed
    return None if 1 / slowed >= log2(FARTHEST_TICK) else 2.0 ** (1 / slowed) - 1


# --- what people and models say of feelings -----------------------------------------------


def valence(value: object) -> float:
    """-1 (bad) to 1 (good) of a number, a numeric or JSON string, or a mapping; else 0."""
    return _scalar(value, _VALENCE_KEYS, lambda number: min(1.0, max(-1.0, number)))


def intensity(value: object) -> float:
    """0 to 1 of a number, a numeric or JSON string, or a mapping; else 0."""
    return _scalar(value, (), _clamp01)


def _scalar(value: object, keys: Sequence[str], clamp: Callable[[float], float]) -> float:
    number = _number(value, keys, may_parse=True)
    return 0.0 if number is None or isnan(number) else clamp(number)


def _number(value: Any, keys: Sequence[str], *, may_parse: bool) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _as_float(value)
    if isinstance(value, str):
        return _of_text(value, keys) if may_parse else _as_float(value)
    if isinstance(value, Mapping):
        return _of_mapping(value, keys)
    return None


def _as_float(value: Any) -> float | None:
    try:
        if isinstance(value, str) and "0x" in value.lower():
            return float.fromhex(value)
        return float(value)
    except (ValueError, OverflowError):
        return None


def _of_text(text: str, keys: Sequence[str]) -> float | None:
    number = _as_float(text)
    if number is not None:
        return number
    try:
        return _number(msgspec.json.decode(text), keys, may_parse=False)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _of_mapping(mapping: Mapping[Any, Any], keys: Sequence[str]) -> float | None:
    for key in keys:
        if key in mapping:
            return _number(mapping[key], keys, may_parse=True)
    if len(mapping) != 1:
        return None
    (only,) = mapping.values()
    return None if isinstance(only, Mapping) else _number(only, keys, may_parse=True)
