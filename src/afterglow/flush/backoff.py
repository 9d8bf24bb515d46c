"""Pure rules of waiting: how long after the nth failure, with jitter."""

from __future__ import annotations

from typing import Final

__all__ = ["back_off_s"]

_MOST: Final = 16


def back_off_s(first_s: float, failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row, the first of which counts as 1.

    Doubles up to 16 times the first. `chance`, 0 to 1, spreads it over the upper half, so that
    those who failed together do not come back together.
    """
    whole = first_s * min(1 << min(max(failures - 1, 0), 30), _MOST)
    return whole * (0.5 + chance / 2)
