"""What store, reinforce and link make of a record: plain rules, no effects."""

from __future__ import annotations

from typing import Any

import msgspec

from afterglow.keep.decay import Curve, reinforced
from afterglow.keep.entry import Record
from afterglow.keep.profile import Kind

__all__ = ["Coactivated", "Content", "Reinforced", "after_use", "begun", "restored"]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What store() was given, checked; the fields are Record's."""

    kind: str
    tags: tuple[str, ...]
    intensity: float
    valence: float
    #: None: what is there, or else what the kind has.
    confidence: float | None
    origin: str
    source_id: str | None
    parent_id: str | None
    unresolved: bool
    consolidation_candidate: bool
    embedding: bytes | None
    payload: str | bytes


class Reinforced(msgspec.Struct, frozen=True):
    """What came of a reinforcement; true if it was one, else `reason` says why not."""

    trace_id: str
    reinforced: bool
    strength: float | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.reinforced


class Coactivated(msgspec.Struct, frozen=True):
    """What came of a co-activation; true if it was counted, else `reason` says why not."""

    counted: bool
    count: int = 0
    linked: bool = False
    reason: str = ""

    def __bool__(self) -> bool:
        return self.counted


def begun(
    trace_id: str, content: Content, kind: Kind, tick: int, now_ns: int, *, imprinting: bool
) -> Record:
    """The record of a new entry."""
    return Record(
        trace_id=trace_id,
        curve=kind.curve,
        decay_rate=kind.decay_rate,
        anchor=kind.start,
        anchor_tick=tick,
        peak_strength=kind.start,
        created_at=now_ns,
        last_reinforced=now_ns,
        reinforcement_count=int(imprinting),
        **_fields(content, kind.confidence),
    )


def restored(before: Record, content: Content, kind: Kind, tick: int) -> Record:
    """The record of an entry that was stored again: what it went through stays.

    Another kind lifts it to that kind's starting strength, if it is weaker. Where it fades
    differently from now on, the curve begins anew at the strength that it has.
    """
    after = msgspec.structs.replace(
        before,
        curve=kind.curve,
        decay_rate=kind.decay_rate,
        **_fields(content, before.confidence),
    )
    if before.kind != after.kind:
        strength = max(before.strength(tick), kind.start)
    elif _fading(before) != _fading(after):
        strength = before.strength(tick)
    else:
        return after
    return msgspec.structs.replace(
        after,
        anchor=strength,
        anchor_tick=tick,
        peak_strength=max(before.peak_strength, strength),
    )


def _fields(content: Content, confidence: float) -> dict[str, Any]:
    fields = msgspec.structs.asdict(content)
    if fields["confidence"] is None:
        fields["confidence"] = confidence
    return fields


def _fading(record: Record) -> tuple[Curve, float, float]:
    return record.curve, record.decay_rate, record.intensity


def after_use(before: Record, tick: int, now_ns: int, *, imprinting: bool) -> Record:
    """The record after a reinforcement: the curve begins anew from there."""
    strength = reinforced(before.strength(tick), imprinting)
    return msgspec.structs.replace(
        before,
        anchor=strength,
        anchor_tick=tick,
        peak_strength=max(before.peak_strength, strength),
        last_reinforced=now_ns,
        reinforcement_count=before.reinforcement_count + 1,
    )
