"""What is kept and why, what goes next, and what was forgotten: for people, read only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from afterglow.errors import NotFoundError, SettingError
from afterglow.keep.decay import half_life
from afterglow.keep.profile import Profile
from afterglow.keep.retention import PARTITION, Retention
from afterglow.keep.rules import KINDS, lifetime, tick_at
from afterglow.ledger import FORGET_REASONS
from afterglow.store.failures import explained
from afterglow.store.room import measured

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


_FADED: Final = """
SELECT count(*) FROM partitions AS p JOIN entries AS e ON e.partition = p.id
WHERE p.name = ? AND e.prune_tick <= ?
"""
_KINDS: Final = (
    "SELECT kind, count(*), sum(spans), sum(errors), sum(bytes) FROM traces GROUP BY kind"
)
_ENTRIES: Final = """
SELECT e.trace_id, e.prune_tick, t.kind, t.why, t.service, t.name, t.start_ns, t.duration_ns,
       t.spans
FROM partitions AS p JOIN entries AS e ON e.partition = p.id
JOIN traces AS t ON t.trace_id = e.trace_id
WHERE p.name = ?
"""
#: In the order of a quota, and of the index.
_SOONEST: Final = f"""{_ENTRIES} AND e.prune_tick IS NOT NULL
ORDER BY e.prune_tick, e.last_reinforced, e.trace_id LIMIT ?"""
_LATEST: Final = f"""{_ENTRIES} AND e.prune_tick IS NOT NULL ORDER BY e.prune_tick DESC LIMIT ?"""
_PINNED: Final = f"""{_ENTRIES} AND t.pinned = 1 AND t.trace_id IN
(SELECT trace_id FROM traces WHERE pinned = 1) ORDER BY t.start_ns DESC LIMIT ?"""


def standing(retention: Retention, now_ns: int, *, limit: int) -> Standing:
    """How things stand; at most `limit` traces in each list."""
    connection, profile = retention.connection, retention.profile
    with explained(retention.path):
        room = measured(connection)
        numbers: dict[str, int] = dict(connection.execute("SELECT key, value FROM keeping"))
        kinds = {row[0]: row for row in connection.execute(_KINDS)}
        pinned = connection.execute(_PINNED, (PARTITION, limit)).fetchall()
        latest = connection.execute(_LATEST, (PARTITION, limit - len(pinned))).fetchall()
        soonest = connection.execute(_SOONEST, (PARTITION, limit)).fetchall()
        tick = tick_at(retention.read([]).moment, profile, now_ns)
        (faded,) = connection.execute(_FADED, (PARTITION, tick)).fetchone()
    may_go = (
        sum(kinds[k][1] for k in KINDS if k in kinds and not profile.kinds[k].protected) - faded
    )
    traces = sum(row[1] for row in kinds.values())
    too_many = max(0, traces - faded - retention.config.keep_max_traces)
    return Standing(
        file_bytes=room.file_bytes,
        used_bytes=room.used_bytes,
        max_bytes=retention.config.keep_max_bytes,
        max_traces=retention.config.keep_max_traces,
        traces=traces,
        kinds=[_kind(name, kinds.get(name), profile) for name in KINDS],
        due={"faded": faded, "quota": min(too_many, max(0, may_go))},
        full=retention.full,
        forgotten={why: numbers.get(f"forgotten_{why}", 0) for why in FORGET_REASONS},
        forgotten_spans=numbers.get("forgotten_spans", 0),
        strongest=_traces(retention, [*pinned, *latest], now_ns),
        next_to_go=_traces(retention, soonest, now_ns),
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


def _traces(retention: Retention, rows: Sequence[Sequence[Any]], now_ns: int) -> list[KeptTrace]:
    found = retention.read([row[0] for row in rows])
    moment, profile = found.moment, retention.profile
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
                trace, _short(retention.connection, trace), kind, why, service, name, start_ns,
                duration_ns, spans, record.strength(tick), goes_ns,
            )
        )  # fmt: skip
    return kept


def _short(connection: sqlite3.Connection, trace: str) -> str:
    """The shortest beginning, twelve digits at least, that neither neighbour has: the ids of one
    process begin alike."""
    row = connection.execute(
        "SELECT (SELECT max(trace_id) FROM traces WHERE trace_id < :id),"
        " (SELECT min(trace_id) FROM traces WHERE trace_id > :id)",
        {"id": trace},
    ).fetchone()
    length = _SHORT
    while any(other is not None and other[:length] == trace[:length] for other in row):
        length += 1
    return trace[:length]


def find_trace(connection: sqlite3.Connection, beginning: str) -> str:
    """The whole id of a trace that somebody named by the beginning of its id.

    Raises SettingError for what can be no id, NotFoundError where none or several begin so.
    """
    digits = beginning.strip().lower().removeprefix("0x")
    if not 0 < len(digits) <= _DIGITS or not all(c in "0123456789abcdef" for c in digits):
        raise SettingError(
            f"TRACE={beginning!r} is no trace id: give its first hexadecimal digits, "
            "as afterglow report --tree shows them"
        )
    found = [
        trace
        for (trace,) in connection.execute(
            "SELECT trace_id FROM traces WHERE trace_id >= ? AND trace_id < ? LIMIT ?",
            (digits, digits + "g", _LISTED + 1),
        )
    ]
    if len(found) == 1:
        return str(found[0])
    if found:
        several = "several" if len(found) > _LISTED else str(len(found))
        raise NotFoundError(
            f"{several} traces begin with {digits}: {', '.join(found[:_LISTED])}; give more digits"
        )
    raise NotFoundError(
        f"no trace begins with {digits}; afterglow report --tree shows ids, afterglow keep what is "
        "kept"
    )
