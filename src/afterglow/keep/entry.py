"""An entry as a back end keeps it, and as people get it."""

from __future__ import annotations

import json
import sys
from array import array
from typing import Any

import msgspec

from afterglow.keep.decay import (
    ARCHIVE_AT,
    AUTO_FIRE_AT,
    Curve,
    Tier,
    crossing,
    faded,
    tier,
)

__all__ = ["Entry", "Links", "Moment", "Record", "entry_of"]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry as it is kept: everything that does not follow from the rest and the time.

    `payload` is JSON text, or bytes as they were given. Times are ns since 1970 (UTC).
    """

    trace_id: str
    kind: str
    curve: Curve
    decay_rate: float
    #: Strength at the last reinforcement (or at the start), and the tick of that.
    anchor: float
    anchor_tick: int
    peak_strength: float
    valence: float
    intensity: float
    confidence: float
    tags: tuple[str, ...]
    origin: str
    source_id: str | None
    created_at: int
    last_reinforced: int
    reinforcement_count: int
    parent_id: str | None
    unresolved: bool
    consolidation_candidate: bool
    #: Doubles, little-endian.
    embedding: bytes | None
    payload: str | bytes

    @property
    def payload_bytes(self) -> int:
        """Its size as UTF-8, for the quota."""
        text = self.payload
        if isinstance(text, bytes):
            return len(text)
        return len(text) if text.isascii() else len(text.encode("utf-8"))

    @property
    def prune_tick(self) -> int | None:
        """The tick at which it is due to be pruned; None if it never is."""
        ticks = crossing(self.curve, self.anchor, self.decay_rate, self.intensity)
        due = None if ticks is None else self.anchor_tick + ticks
        return due if due is None or due < 1 << 63 else None

    def strength(self, tick: int) -> float:
        """Its strength at a tick."""
        since = max(0, tick - self.anchor_tick)
        return faded(self.curve, self.anchor, self.decay_rate, since, self.intensity)


class Moment(msgspec.Struct, frozen=True):
    """Where a partition's decay stands. Times are ns since 1970.

    Ticks of wall time are counted from `ticked_at`; `advanced_at` is when the tick last moved.
    """

    tick: int = 0
    ticked_at: int = 0
    advanced_at: int = 0


class Links(msgspec.Struct, frozen=True):
    """What of an entry lies in other rows."""

    associated: tuple[str, ...] = ()
    child_ids: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry at one moment: a value, not a door. To change an entry, store it again.

    Strengths, intensity and confidence are 0 to 1, valence -1 to 1; times are ns since 1970
    (UTC), `last_decayed` None before the first decay.
    """

    trace_id: str
    kind: str
    partition: str
    strength: float
    peak_strength: float
    decay_rate: float
    valence: float
    intensity: float
    confidence: float
    tags: tuple[str, ...]
    origin: str
    source_id: str | None
    created_at: int
    last_reinforced: int
    last_decayed: int | None
    reinforcement_count: int
    tier: Tier
    associated: tuple[str, ...]
    parent_id: str | None
    child_ids: tuple[str, ...]
    unresolved: bool
    consolidation_candidate: bool
    encoded_embedding: bytes | None
    encoded_payload: str | bytes
    #: How well it fits the retrieval that it came with; None where none was asked for.
    score: float | None = None

    @property
    def payload(self) -> Any:
        """What was stored. Decoded anew each time: changing it changes nothing in the store."""
        if isinstance(self.encoded_payload, bytes):
            return self.encoded_payload
        return json.loads(self.encoded_payload)

    @property
    def to_archive(self) -> bool:
        """Whether so little of it is left (0.05) that it belongs into an archive, if anywhere."""
        return self.strength <= ARCHIVE_AT

    @property
    def auto_fires(self) -> bool:
        """Whether it is a procedure so strong (0.85) that it may act without being asked for."""
        return self.kind == "procedural" and self.strength >= AUTO_FIRE_AT

    @property
    def embedding(self) -> list[float] | None:
        """The vector that was stored with it."""
        if self.encoded_embedding is None:
            return None
        vector = array("d", self.encoded_embedding)
        if sys.byteorder == "big":
            vector.byteswap()
        return vector.tolist()


def entry_of(record: Record, partition: str, moment: Moment, links: Links, now_ns: int) -> Entry:
    """What a person gets of a record, at a moment."""
    strength = record.strength(moment.tick)
    decayed = record.decay_rate > 0 and moment.tick > record.anchor_tick
    return Entry(
        trace_id=record.trace_id,
        kind=record.kind,
        partition=partition,
        strength=strength,
        peak_strength=record.peak_strength,
        decay_rate=record.decay_rate,
        valence=record.valence,
        intensity=record.intensity,
        confidence=record.confidence,
        tags=record.tags,
        origin=record.origin,
        source_id=record.source_id,
        created_at=record.created_at,
        last_reinforced=record.last_reinforced,
        last_decayed=moment.advanced_at if decayed else None,
        reinforcement_count=record.reinforcement_count,
        tier=tier(strength, (now_ns - record.last_reinforced) / 1e9),
        associated=links.associated,
        parent_id=record.parent_id,
        child_ids=links.child_ids,
        unresolved=record.unresolved,
        consolidation_candidate=record.consolidation_candidate,
        encoded_embedding=record.embedding,
        encoded_payload=record.payload,
    )
