"""What is kept and why, what goes next, and what was forgotten: for people, read only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from afterglow.errors import NotFoundError, SettingError
from afterglow.keep.decay import half_life
from afterglow.keep.keeper import Keeper, KeptSpans
from afterglow.keep.profile import Profile
from afterglow.keep.rules import KINDS, lifetime, tick_at
from afterglow.ledger import FORGET_REASONS

__all__ = ["KeptKind", "KeptTrace", "Standing", "find_trace", "standing"]

_DIGITS: Final = 32
_LISTED: Final = 5
_SHORT: Final = 12


class KeptKind(msgspec.Struct, frozen=True):
    """What is there of one kind. `half_life_s` and `lifetime_s` are None where they never end, and
    where time goes by volume."""

    kind: str
    traces: int
    spans: int
    errors: int
    bytes: int
    half_life_s: float | None
    lifetime_s: float | None


class KeptTrace(msgspec.Struct, frozen=True):
    """One trace; `short_id` is the beginning of its id that no other trace has.

    `goes_ns` is when it will be forgotten (ns since 1970) if nobody looks at it and there is room;
    None: never, or time goes by volume.
    """

    trace_id: str
    short_id: str
    kind: str
    why: str
    service: str
    name: str
    start_ns: int
    duration_ns: int | None
    spans: int
    strength: float
    goes_ns: int | None


class Standing(msgspec.Struct, frozen=True):
    """How retention stands. Bytes are of the file; `forgotten` counts traces by reason."""

    file_bytes: int
    used_bytes: int
    max_bytes: int
    max_traces: int
    traces: int
    kinds: list[KeptKind]
    #: Traces that a pass would forget now, by reason; where the file is `full`, more than these.
    due: dict[str, int]
    full: bool
    forgotten: dict[str, int]
    forgotten_spans: int
    #: Strongest first: what stays longest.
    strongest: list[KeptTrace]
    #: What fades, or makes room, first.
    next_to_go: list[KeptTrace]


def standing(keeper: Keeper, now_ns: int, *, limit: int) -> Standing:
    """How things stand; at most `limit` traces in each list."""
    profile = keeper.profile
    tick = tick_at(keeper.read([]).moment, profile, now_ns)
    stand = keeper.spans.stand(tick, limit)
    kinds = {row[0]: row for row in stand.kinds}
    may_go = sum(kinds[k][1] for k in KINDS if k in kinds and not profile.kinds[k].protected)
    traces = sum(row[1] for row in kinds.values())
    too_many = max(0, traces - stand.faded - keeper.config.keep_max_traces)
    return Standing(
        file_bytes=stand.room.file_bytes,
        used_bytes=stand.room.used_bytes,
        max_bytes=keeper.config.keep_max_bytes,
        max_traces=keeper.config.keep_max_traces,
        traces=traces,
        kinds=[_kind(name, kinds.get(name), profile) for name in KINDS],
        due={"faded": stand.faded, "quota": min(too_many, max(0, may_go - stand.faded))},
        full=keeper.full,
        forgotten={why: stand.numbers.get(f"forgotten_{why}", 0) for why in FORGET_REASONS},
        forgotten_spans=stand.numbers.get("forgotten_spans", 0),
        strongest=_traces(keeper, [*stand.pinned, *stand.latest], now_ns),
        next_to_go=_traces(keeper, stand.soonest, now_ns),
    )


def _kind(name: str, row: Sequence[Any] | None, profile: Profile) -> KeptKind:
    kind = profile.kinds[name]
    tick_s = None if profile.tick_entries is not None else profile.tick_s
    half, whole = half_life(kind.curve, kind.decay_rate), lifetime(kind)
    _, traces, spans, errors, size = row or (name, 0, 0, 0, 0)
    return KeptKind(
        kind=name,
        traces=traces,
        spans=spans,
        errors=errors,
        bytes=size,
        half_life_s=None if half is None or tick_s is None else half * tick_s,
        lifetime_s=None if whole is None or tick_s is None else whole * tick_s,
    )


def _traces(keeper: Keeper, rows: Sequence[Sequence[Any]], now_ns: int) -> list[KeptTrace]:
    found = keeper.read([row[0] for row in rows])
    moment, profile = found.moment, keeper.profile
    tick = tick_at(moment, profile, now_ns)
    kept = []
    for trace, prune_tick, kind, why, service, name, start_ns, duration_ns, spans in rows:
        record = found.records.get(trace)
        if record is None:
            continue  # it went between two questions
        goes_ns = None
        if prune_tick is not None and profile.tick_entries is None:
            goes_ns = moment.ticked_at + round((prune_tick - moment.tick) * profile.tick_s * 1e9)
        kept.append(
            KeptTrace(
                trace, _short(keeper.spans, trace), kind, why, service, name, start_ns,
                duration_ns, spans, record.strength(tick), goes_ns,
            )
        )  # fmt: skip
    return kept


def _short(spans: KeptSpans, trace: str) -> str:
    """The shortest beginning, twelve digits at least, that neither neighbour has: the ids of one
    process begin alike."""
    length = _SHORT
    around = spans.neighbours(trace)
    while any(other is not None and other[:length] == trace[:length] for other in around):
        length += 1
    return trace[:length]


def find_trace(spans: KeptSpans, beginning: str) -> str:
    """The whole id of a trace that somebody named by the beginning of its id.

    Raises SettingError for what can be no id, NotFoundError where none or several begin so.
    """
    digits = beginning.strip().lower().removeprefix("0x")
    if not 0 < len(digits) <= _DIGITS or not all(c in "0123456789abcdef" for c in digits):
        raise SettingError(
            f"TRACE={beginning!r} is no trace id: give its first hexadecimal digits, "
            "as afterglow report --tree shows them"
        )
    found = spans.beginning_with(digits, _LISTED + 1)
    if len(found) == 1:
        return found[0]
    if found:
        several = "several" if len(found) > _LISTED else str(len(found))
        raise NotFoundError(
            f"{several} traces begin with {digits}: {', '.join(found[:_LISTED])}; give more digits"
        )
    raise NotFoundError(
        f"no trace begins with {digits}; afterglow report --tree shows ids, afterglow keep what is "
        "kept"
    )
