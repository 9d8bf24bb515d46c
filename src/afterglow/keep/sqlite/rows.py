"""Records as rows, and back."""

from __future__ import annotations

from typing import Any

import msgspec

from afterglow.keep.entry import Record

__all__ = ["entry_values", "record_of", "tags_of", "tags_text"]

_encode = msgspec.json.Encoder().encode
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def entry_values(record: Record, partition: int) -> tuple[Any, ...]:
    """The columns of `entries` but for the number, in the order of the table."""
    return (
        partition,
        record.trace_id,
        record.kind,
        record.curve,
        record.decay_rate,
        record.anchor,
        record.anchor_tick,
        record.prune_tick,
        record.peak_strength,
        record.valence,
        record.intensity,
        record.confidence,
        record.origin,
        record.source_id,
        record.created_at,
        record.last_reinforced,
        record.reinforcement_count,
        record.parent_id,
        record.unresolved,
        record.consolidation_candidate,
        tags_text(record.tags),
    )


def tags_text(tags: tuple[str, ...]) -> str:
    """Tags as they are kept with their entry."""
    return _encode(tags).decode()


def tags_of(text: str) -> tuple[str, ...]:
    """And back."""
    return () if text == "[]" else _decode_tags(text)


def record_of(row: tuple[Any, ...]) -> Record:
    """The record of a row of RECORDS or EXPORT."""
    return Record(
        trace_id=row[0],
        kind=row[1],
        curve=row[2],
        decay_rate=row[3],
        anchor=row[4],
        anchor_tick=row[5],
        peak_strength=row[6],
        valence=row[7],
        intensity=row[8],
        confidence=row[9],
        tags=tags_of(row[10]),
        origin=row[11],
        source_id=row[12],
        created_at=row[13],
        last_reinforced=row[14],
        reinforcement_count=row[15],
        parent_id=row[16],
        unresolved=bool(row[17]),
        consolidation_candidate=bool(row[18]),
        embedding=row[19],
        payload=row[20],
    )
