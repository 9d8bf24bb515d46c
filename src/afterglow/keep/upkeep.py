"""What a store does for itself: ticks, tiers, quota, erasure. All of it on flushed rows."""

from __future__ import annotations

from collections import Counter
from typing import Final, get_args

import msgspec

from afterglow.clock import Clock
from afterglow.errors import SettingError
from afterglow.keep.backend import Backend, Cycle, Selection, Totals
from afterglow.keep.decay import FARTHEST_TICK, HOT_S, WARM_S
from afterglow.keep.encode import whole
from afterglow.keep.profile import Profile, QuotaPolicy

__all__ = ["Tiers", "Upkeep", "cycle_of", "due_ticks", "tick_ns"]

_NS: Final = 1_000_000_000
_EVER: Final = -(1 << 62)


class Tiers(msgspec.Struct, frozen=True):
    """How many entries are in each tier by age, and how many came there since the last look."""

    hot: int
    warm: int
    cold: int
    became_warm: int
    became_cold: int


def due_ticks(totals: Totals, profile: Profile, now_ns: int) -> tuple[int, int, int]:
    """Ticks that are due by wall time or volume; the new `ticked_at`, the new `ingested`.

    Whoever comes first takes all that are due: what two processes add up to is the time.
    """
    ticked_at, ingested = totals.moment.ticked_at, totals.ingested
    if profile.tick_entries is not None:
        ticks, ingested = divmod(ingested, profile.tick_entries)
        return ticks, now_ns, ingested  # time that went by does not count, whatever comes later
    if now_ns < ticked_at:  # the wall clock was set back: count from here
        return 0, now_ns, ingested
    ticks = (now_ns - ticked_at) // tick_ns(profile)
    return ticks, ticked_at + ticks * tick_ns(profile), ingested


def tick_ns(profile: Profile) -> int:
    """How long a tick is, where wall time makes it."""
    return max(1, round(profile.tick_s * _NS))


class Upkeep:
    """The back end's larger tasks, with the rules that they need."""

    def __init__(
        self, backend: Backend, profile: Profile, clock: Clock, counters: Counter[str]
    ) -> None:
        self._backend = backend
        self._profile = profile
        self._clock = clock
        self._counters = counters

    def decay_cycle(self, ticks: int | None) -> Cycle:
        """Advance by so many ticks, or by those that are due."""
        now_ns = self._clock.wall_ns()

        def due(totals: Totals) -> tuple[int, int, int]:
            if ticks is None:
                return due_ticks(totals, self._profile, now_ns)
            # At the farthest tick time stands still: no column holds a later one.
            left = max(0, FARTHEST_TICK - totals.moment.tick)
            return min(ticks, left), totals.moment.ticked_at, totals.ingested

        cycle = self._backend.advance(due, now_ns)
        self._counters["pruned"] += cycle.pruned
        return cycle

    def last_cycle(self) -> Cycle | None:
        """What the last cycle of any process did."""
        return cycle_of(self._backend.totals())

    def migrate_tiers(self) -> Tiers:
        """Count the tiers, and what has changed its tier since that was done last."""
        now_ns = self._clock.wall_ns()
        warm, cold = now_ns - HOT_S * _NS, now_ns - WARM_S * _NS
        before = self._backend.totals().tiered_at
        was_warm, was_cold = before - HOT_S * _NS, before - WARM_S * _NS
        bounds = sorted({_EVER, was_cold, cold, was_warm, warm, -_EVER})
        counts, _ = self._backend.tiers(bounds, now_ns)

        def between(low: int, high: int) -> int:
            if low >= high:
                return 0
            return sum(counts[bounds.index(low) : bounds.index(high)])

        return Tiers(
            hot=between(warm, -_EVER),
            warm=between(cold, warm),
            cold=between(_EVER, cold),
            became_warm=between(max(was_warm, cold), warm) if before else between(cold, warm),
            became_cold=between(was_cold, cold) if before else between(_EVER, cold),
        )

    def enforce_quota(
        self,
        max_entries: int | None,
        max_payload_bytes: int | None,
        policy: QuotaPolicy | None,
    ) -> list[str]:
        """Evict what is beyond the quota; the profile's where nothing else is said. Raises
        SettingError."""
        profile = self._profile
        policy = profile.quota_policy if policy is None else policy
        if policy not in get_args(QuotaPolicy):
            known = ", ".join(get_args(QuotaPolicy))
            raise SettingError(f"unknown policy {policy!r}: there are {known}")
        evicted = self._backend.evict(
            _quota(max_entries, "max_entries", profile.max_entries),
            _quota(max_payload_bytes, "max_payload_bytes", profile.max_payload_bytes),
            policy,
            [name for name, kind in profile.kinds.items() if kind.protected],
            self._clock.wall_ns(),
        )
        self._counters["evicted"] += len(evicted)
        return evicted

    def erase(self, selection: Selection, partition: str | None = None) -> int:
        """Remove all that match."""
        erased = self._backend.erase(selection, self._clock.wall_ns(), partition)
        self._counters["erased"] += erased
        return erased


def _quota(given: int | None, name: str, default: int) -> int:
    return default if given is None else whole(given, name)


def cycle_of(totals: Totals) -> Cycle | None:
    """The summary that a partition keeps of its last decay cycle."""
    if totals.last_cycle is None:
        return None
    return msgspec.json.decode(totals.last_cycle, type=Cycle)
