"""Whether a trace that begins here is recorded: decided once, at its local root.

The ratio is OpenTelemetry's TraceIdRatioBased: the low 64 bits of the trace id below
ratio * 2**64. The budget is a token bucket that holds one second's worth.
"""

from __future__ import annotations

from collections.abc import Callable

from afterglow.clock import monotonic_ns
from afterglow.ledger import NotRecordedReason
from afterglow.model.flat import widen
from afterglow.record.identity import identity

__all__ = ["Budget", "Sampler"]

_MASK64 = (1 << 64) - 1


class Budget:
    """A token bucket over the spans that were begun, read at roots only.

    Spans draw without asking (that would cost each of them): what was begun since the last
    look is subtracted at the next. The state is one tuple, replaced as a whole: two threads
    that look at once work from the same one, and either result is right.
    """

    def __init__(self, spans_per_second: float, begun: Callable[[], int], now_ns: int) -> None:
        self._rate = spans_per_second
        self._begun = begun
        self._state = (now_ns, begun(), max(1.0, spans_per_second))

    def allow(self, now_ns: int) -> bool:
        """Whether a trace may begin now."""
        last_ns, last_begun, level = self._state
        begun = self._begun()
        level += (now_ns - last_ns) * 1e-9 * self._rate - (begun - last_begun)
        # A trace that overdraws is paid back within a second, so that recording goes on soon
        # after the load falls.
        level = min(max(level, -self._rate), max(1.0, self._rate))
        self._state = (now_ns, begun, level)
        return level >= 1.0


class Sampler:
    """Ratio and budget together."""

    def __init__(self, ratio: float, budget: Budget | None) -> None:
        self._bound = round(ratio * (1 << 64))
        self._budget = budget

    def refusal(self, trace: int | bytes, *, follow_ratio: bool = True) -> NotRecordedReason | None:
        """Why this trace is not recorded, or None: it is.

        A trace whose caller has decided already (`follow_ratio` False) asks the budget only.
        """
        if follow_ratio and (widen(identity.seed, trace) & _MASK64) >= self._bound:
            return "sampled_out"
        if self._budget is not None and not self._budget.allow(monotonic_ns()):
            return "budget"
        return None
