"""Records as rows of afterglow.entry, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from afterglow.keep.entry import Record
from afterglow.store.postgres.text import kept, payload_bytes, payload_text, read

__all__ = ["columns_of", "record_of", "tags_of", "touch_columns_of"]


def tags_of(record: Record) -> str:
    """Its tags as they are kept: JSON in ASCII, which holds every character."""
    return json.dumps(record.tags, separators=(",", ":"))


def columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The parameters of sql.PUT: a list a column."""
    payloads = [record.payload for record in records]
    return {
        **touch_columns_of(records),
        "kind": [kept(r.kind) for r in records],
        "curve": [r.curve for r in records],
        "decay_rate": [float(r.decay_rate) for r in records],
        "valence": [float(r.valence) for r in records],
        "intensity": [float(r.intensity) for r in records],
        "confidence": [float(r.confidence) for r in records],
        "tags": [tags_of(r) for r in records],
        "origin": [kept(r.origin) for r in records],
        "source_id": [_kept(r.source_id) for r in records],
        "created_at": [r.created_at for r in records],
        "parent_id": [_kept(r.parent_id) for r in records],
        "unresolved": [r.unresolved for r in records],
        "consolidation_candidate": [r.consolidation_candidate for r in records],
        "embedding": [r.embedding for r in records],
        "payload": [p if isinstance(p, bytes) else payload_bytes(p) for p in payloads],
        "payload_is_text": [isinstance(p, str) for p in payloads],
    }


def touch_columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The parameters of sql.TOUCH."""
    return {
        "trace_id": [kept(r.trace_id) for r in records],
        "anchor": [float(r.anchor) for r in records],
        "anchor_tick": [r.anchor_tick for r in records],
        "prune_tick": [r.prune_tick for r in records],
        "peak_strength": [float(r.peak_strength) for r in records],
        "last_reinforced": [r.last_reinforced for r in records],
        "reinforcement_count": [r.reinforcement_count for r in records],
    }


def record_of(row: Sequence[Any]) -> Record:
    """The record of a row in the order of the columns in sql.py."""
    return Record(
        trace_id=read(row[0]),
        kind=read(row[1]),
        curve=row[2],
        decay_rate=row[3],
        anchor=row[4],
        anchor_tick=row[5],
        peak_strength=row[7],
        valence=row[8],
        intensity=row[9],
        confidence=row[10],
        tags=tuple(json.loads(row[11])) if row[11] != "[]" else (),
        origin=read(row[12]),
        source_id=_read(row[13]),
        created_at=row[14],
        last_reinforced=row[15],
        reinforcement_count=row[16],
        parent_id=_read(row[17]),
        unresolved=row[18],
        consolidation_candidate=row[19],
        embedding=row[20],
        payload=payload_text(row[21]) if row[22] else row[21],
    )


def _kept(text: str | None) -> str | None:
    return None if text is None else kept(text)


def _read(text: str | None) -> str | None:
    return None if text is None else read(text)
