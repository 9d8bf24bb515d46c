"""Which kind a recorded trace is, and how much it matters: pure rules of values.

Retention (keep/retention.py) asks these of each trace that is new or has changed. What is slow
is relative to what is usual for the trace's own name; how fast each kind fades is in the profile.
"""

from __future__ import annotations

from math import log
from typing import Any, Final, Literal

import msgspec

from afterglow.config import RetentionConfig
from afterglow.keep.decay import crossing, faded
from afterglow.keep.entry import Moment, Record
from afterglow.keep.profile import SPANS, Kind, Profile
from afterglow.keep.upkeep import tick_ns
from afterglow.model.kept import History, TraceSummary

__all__ = [
    "KINDS",
    "SpanKind",
    "Verdict",
    "entered",
    "judge",
    "lifetime",
    "spans_profile",
    "tick_at",
]

SpanKind = Literal["pinned", "open", "error", "slow", "normal", "routine"]
#: In the order in which the rules ask, which is that of importance.
KINDS: Final[tuple[SpanKind, ...]] = ("pinned", "open", "error", "slow", "normal", "routine")

_MINUTES_A_DAY: Final = 1_440
_TICK_S: Final = 60.0
_LONGEST_TAG: Final = 200


class Verdict(msgspec.Struct, frozen=True):
    """What a trace is taken for. `why` is a few words for a person."""

    kind: SpanKind
    intensity: float
    why: str


def judge(trace: TraceSummary, history: History, config: RetentionConfig) -> Verdict:
    """The kind of a trace, its intensity (0 to 1), and why."""
    intensity = max(_failure(trace), _slowness(trace, history))
    if trace.pinned:
        return Verdict("pinned", intensity, "pinned by hand")
    if trace.going_on:
        return Verdict("open", intensity, "has not ended yet")
    if trace.errors and config.keep_errors:
        what = "the root failed" if trace.status == "error" else "spans inside failed"
        return Verdict("error", intensity, what)
    known = history.traces >= config.keep_slow_after and trace.duration_ns is not None
    if known and _is_slow(trace.duration_ns or 0, history, config.keep_slow_factor):
        times = (trace.duration_ns or 0) / max(history.p50_ns, 1.0)
        return Verdict("slow", intensity, f"{_times(times)} the median of its name")
    if history.traces >= config.keep_routine_after and trace.duration_ns is not None:
        return Verdict("routine", intensity, "one of very many, and nothing strikes")
    return Verdict("normal", intensity, "nothing strikes")


def _is_slow(duration_ns: int, history: History, factor: float) -> bool:
    return duration_ns >= history.p99_ns and duration_ns > factor * history.p50_ns


def _times(times: float) -> str:
    return f"{times:,.1f} times" if times < 100 else f"{times:,.0f} times"


def _failure(trace: TraceSummary) -> float:
    """Nothing without errors; more for a root that failed, and for the share that did."""
    if not trace.errors:
        return 0.0
    share = trace.errors / max(trace.spans, 1)
    return (0.8 if trace.status == "error" else 0.5) + 0.2 * min(share, 1.0)


def _slowness(trace: TraceSummary, history: History) -> float:
    """0 up to twice the median, 0.5 at four times, near 1 far beyond."""
    if not trace.duration_ns or not history.p50_ns:
        return 0.0
    return max(0.0, 1.0 - 2.0 * history.p50_ns / trace.duration_ns)


# --- how kinds fade -----------------------------------------------------------------------


def spans_profile(config: RetentionConfig) -> Profile:
    """The profile of recorded traces with the half lives of the settings; a tick is a minute."""
    days = {
        "error": config.keep_error_half_days,
        "slow": config.keep_slow_half_days,
        "normal": config.keep_normal_half_days,
        "routine": config.keep_routine_half_days,
    }
    kinds = {
        name: kind
        if name not in days
        else msgspec.structs.replace(kind, decay_rate=log(2) / (days[name] * _MINUTES_A_DAY))
        for name, kind in SPANS.kinds.items()
    }
    return msgspec.structs.replace(
        SPANS,
        kinds=kinds,
        tick_s=_TICK_S,
        tick_entries=config.keep_tick_traces,
        max_entries=config.keep_max_traces,
    )


def tick_at(moment: Moment, profile: Profile, now_ns: int) -> int:
    """The tick of a time, which may be later than the last one that was noted."""
    if profile.tick_entries is not None:
        return moment.tick
    return moment.tick + max(0, now_ns - moment.ticked_at) // tick_ns(profile)


def lifetime(kind: Kind, intensity: float = 0.0) -> int | None:
    """Ticks until a trace of this kind is gone, if nobody looks at it; None: never."""
    return crossing(kind.curve, kind.start, kind.decay_rate, intensity)


def entered(
    trace: TraceSummary,
    verdict: Verdict,
    before: Record | None,
    *,
    profile: Profile,
    tick: int,
    now_ns: int,
) -> Record:
    """The entry of a trace, new or in place of the one `before`.

    A trace is as old as its end says, so that one folded late does not seem new; but at least
    half of its life is before it when it is first seen, so that nothing goes unseen at once. One
    that has become of another kind begins anew, no weaker than it was.
    """
    kind = profile.kinds[verdict.kind]
    anchor, anchor_tick = kind.start, tick
    if profile.tick_entries is None:
        age = max(0, now_ns - trace.end_ns) // tick_ns(profile)
        whole = lifetime(kind, verdict.intensity)
        anchor_tick = tick - (0 if whole is None else min(age, whole // 2))
    if before is not None and before.decay_rate and kind.decay_rate:
        was = before.strength(tick)
        if before.kind == verdict.kind:
            anchor, anchor_tick = before.anchor, before.anchor_tick
        elif was > faded(kind.curve, anchor, kind.decay_rate, tick - anchor_tick, 0.0):
            anchor, anchor_tick = was, tick
    return Record(
        trace_id=trace.trace_id,
        kind=verdict.kind,
        curve=kind.curve,
        decay_rate=kind.decay_rate,
        anchor=anchor,
        anchor_tick=anchor_tick,
        peak_strength=max(anchor, before.peak_strength if before is not None else 0.0),
        valence=-0.6 if verdict.kind == "error" else 0.0,
        intensity=verdict.intensity,
        confidence=kind.confidence,
        tags=_tags(trace),
        origin="direct_experience",
        source_id=None,
        created_at=before.created_at if before is not None else trace.start_ns,
        last_reinforced=before.last_reinforced if before is not None else trace.end_ns,
        reinforcement_count=before.reinforcement_count if before is not None else 0,
        parent_id=None,
        unresolved=verdict.kind == "error",
        consolidation_candidate=False,
        embedding=None,
        payload=msgspec.json.encode(_payload(trace, verdict)).decode(),
    )


def _tags(trace: TraceSummary) -> tuple[str, ...]:
    tags = (f"service:{trace.service}", f"name:{trace.name}", f"status:{trace.status}")
    return tuple(tag[:_LONGEST_TAG] for tag in tags)


def _payload(trace: TraceSummary, verdict: Verdict) -> dict[str, Any]:
    # Short: all the rest is in the trace's row of `traces`, and in its tags.
    return {"why": verdict.why, "duration_ns": trace.duration_ns, "spans": trace.spans}
