"""What `afterglow memory` prints: entries, snapshots, figures; for people and for programs."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from afterglow.keep.decay import half_life
from afterglow.keep.entry import Entry
from afterglow.keep.recall import entry_text
from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.settings import without_password
from afterglow.ui.text import clip, printable
from afterglow.ui.units import bar, count, duration, moment, plural, short_moment, size

if TYPE_CHECKING:
    from afterglow.keep.backend import Cycle
    from afterglow.keep.profile import Profile
    from afterglow.keep.snapshots import Snapshot
    from afterglow.keeping import TraceStore

__all__ = [
    "cycle_document",
    "entry_document",
    "print_cycle",
    "print_entries",
    "print_entry",
    "print_snapshots",
    "print_stats",
    "snapshot_document",
    "stats_document",
]

_BAR = 8
#: As much as tells entries of different milliseconds apart: ids begin with the time.
_SHORT_ID = 13
#: What takes longer to halve is said to last: a power law's tail is no figure for people.
_EVER_DAYS = 1_000 * 365.25


# --- entries ------------------------------------------------------------------------------


def entry_document(entry: Entry) -> dict[str, Any]:
    """Every field of an entry; bytes are base64 in `payload_base64`. Times are ns since 1970."""
    fields = {
        name: getattr(entry, name)
        for name in entry.__struct_fields__
        if not name.startswith("encoded_")
    }
    payload = entry.payload
    if isinstance(payload, bytes):
        fields["payload_base64"] = base64.b64encode(payload).decode()
    else:
        fields["payload"] = payload
    return {**fields, "embedding": entry.embedding}


def print_entries(screen: Screen, entries: Sequence[Entry], nothing: str) -> None:
    """A line each: id, strength, kind, tags, and as much of the text as has room."""
    if not entries:
        screen.line((nothing, styles.QUIET))
        return
    fields: list[tuple[Column, list[Text]]] = [
        (Column("id", right=False), [Text(i, "bold") for i in _ids(screen, entries)]),
        (Column("strength", right=False), [_strength(screen, entry) for entry in entries]),
        (Column("kind", right=False), [Text(printable(entry.kind)) for entry in entries]),
    ]
    if any(entry.tags for entry in entries) and (screen.width is None or screen.width >= 80):
        tags = [clip(printable(" ".join(e.tags)), 20, mark=screen.glyphs.cut) for e in entries]
        fields.append((Column("tags", right=False), [Text(tag, styles.QUIET) for tag in tags]))
    taken = sum(2 + max(len(c.title), *(cell.cell_len for cell in cells)) for c, cells in fields)
    room = 200 if screen.width is None else max(screen.width - taken, 4)
    lines = [Text(clip(_line(entry), room, mark=screen.glyphs.cut)) for entry in entries]
    fields.append((Column("what", right=False), lines))
    columns, cells = [column for column, _ in fields], [cells for _, cells in fields]
    screen.grid(columns, list(zip(*cells, strict=True)))


def _ids(screen: Screen, entries: Sequence[Entry]) -> list[str]:
    """As much of each random id as tells it from the others here; all of it in pipes."""
    whole = [printable(entry.trace_id) for entry in entries]
    if screen.width is None:
        return whole
    length = _SHORT_ID
    while length < 36 and len({i[:length] for i in whole}) < len(set(whole)):
        length += 1
    cut = [i[:length] if len(i) == 36 else i for i in whole]
    return [clip(i, 20, mark=screen.glyphs.cut) for i in cut]


def _strength(screen: Screen, entry: Entry) -> Text:
    if screen.width is not None and screen.width < 70:
        return Text(f"{entry.strength:.2f}")
    drawn = bar(entry.strength, _BAR, ascii_only=screen.ascii_only)
    return Text(f"{entry.strength:.2f} ").append(drawn, styles.heat(entry.strength / 4))


def _line(entry: Entry) -> str:
    if isinstance(entry.encoded_payload, bytes):
        return f"({plural(len(entry.encoded_payload), 'byte')})"
    return printable(" ".join(entry_text(entry)[:1_000].split()))


def print_entry(screen: Screen, entry: Entry) -> None:
    """Its text, then a line a fact."""
    if isinstance(entry.encoded_payload, bytes):
        screen.line((_line(entry), styles.QUIET))
    else:
        for line in entry_text(entry).splitlines():
            screen.line(printable(line))
    screen.line()
    feeling = f"valence {entry.valence:+.2f}, intensity {entry.intensity:.2f}"
    fades = "never fades" if entry.decay_rate == 0 else f"decay rate {entry.decay_rate:g} a tick"
    facts = {
        "id": entry.trace_id,
        "kind": f"{entry.kind}, {fades}",
        "strength": f"{entry.strength:.3f} (at most {entry.peak_strength:.3f} so far)",
        "tier": entry.tier,
        "tags": " ".join(entry.tags),
        "feeling": feeling if entry.valence or entry.intensity else "",
        "confidence": f"{entry.confidence:.2f}",
        "made": moment(entry.created_at),
        "used": f"{moment(entry.last_reinforced)}, {plural(entry.reinforcement_count, 'time')}",
        "linked": " ".join(entry.associated),
        "parent": entry.parent_id or "",
        "children": " ".join(entry.child_ids),
        "open": "unresolved" if entry.unresolved else "",
    }
    _facts(screen, facts)


def _facts(screen: Screen, facts: Mapping[str, str]) -> None:
    rows = [
        [Text(name, styles.QUIET), Text(printable(value))] for name, value in facts.items() if value
    ]
    screen.grid([Column("", right=False), Column("", right=False)], rows, titled=False)


# --- snapshots ----------------------------------------------------------------------------


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Its fields; the path as text."""
    fields = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
    return {**fields, "path": str(snapshot.path)}


def print_snapshots(screen: Screen, snapshots: Sequence[Snapshot]) -> None:
    """A line each."""
    if not snapshots:
        screen.line(("no snapshots", styles.QUIET))
        return
    rows = [
        [
            Text(printable(one.name), "bold"),
            Text("-" if one.problem else moment(one.taken_at)),
            Text("-" if one.problem else count(one.entries)),
            Text(size(one.file_bytes)),
            Text(printable(one.problem or ""), styles.BAD),
        ]
        for one in snapshots
    ]
    columns = [Column("snapshot", right=False), Column("taken", right=False), Column("entries")]
    screen.grid([*columns, Column("size"), Column("", right=False)], rows)


# --- decay and figures ----------------------------------------------------------------------


def cycle_document(due: Cycle, more: Cycle | None) -> dict[str, Any]:
    """What one cycle did, or two together."""
    last = more or due
    return {
        "ticks": due.ticks + (more.ticks if more else 0),
        "decayed": last.decayed,
        "pruned": due.pruned + (more.pruned if more else 0),
        "total": due.total,
        "remaining": last.remaining,
        "maintained_at": last.maintained_at,
    }


def print_cycle(screen: Screen, document: Mapping[str, Any]) -> None:
    """One line."""
    parts = [
        (plural(document["ticks"], "tick"), ""),
        (f"{count(document['pruned'])} faded away", styles.WARM if document["pruned"] else ""),
        (f"{count(document['remaining'])} remain", ""),
    ]
    screen.line(screen.joined(parts))


def stats_document(store: TraceStore, database: str) -> dict[str, Any]:
    """How much there is: in all, by kind and by tier; half lives in ns, None for never."""
    by_kind: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    strengths: dict[str, float] = defaultdict(float)
    payload_bytes = unresolved = links = 0
    for entry in store.each():
        by_kind[entry.kind] += 1
        tiers[entry.tier] += 1
        strengths[entry.kind] += entry.strength
        payload_bytes += _payload_bytes(entry)
        unresolved += entry.unresolved
        links += len(entry.associated)
    profile = store.profile
    return {
        "database": without_password(database),
        "partition": store.partition,
        "entries": by_kind.total(),
        "payload_bytes": payload_bytes,
        "max_entries": profile.max_entries,
        "max_payload_bytes": profile.max_payload_bytes,
        "unresolved": unresolved,
        "links": links // 2,
        "tiers": dict(tiers),
        "kinds": [
            _kind_document(profile, name, by_kind[name], strengths[name])
            for name in [*profile.kinds, *sorted(by_kind.keys() - profile.kinds.keys())]
        ],
        "last_cycle": store.last_cycle,
    }


def _kind_document(profile: Profile, name: str, n: int, strengths: float) -> dict[str, Any]:
    """Of a kind that another profile knows, only how many there are is known."""
    rules = profile.kinds.get(name)
    ticks = half_life(rules.curve, rules.decay_rate) if rules is not None else None
    by_time = profile.tick_entries is None
    return {
        "kind": name,
        "entries": n,
        "mean_strength": strengths / n if n else None,
        "starts_at": rules.start if rules is not None else None,
        "decay_rate": rules.decay_rate if rules is not None else None,
        "half_life_ticks": ticks,
        "half_life_ns": ticks * profile.tick_s * 1e9 if by_time and ticks is not None else None,
    }


def _payload_bytes(entry: Entry) -> int:
    payload = entry.encoded_payload
    return len(payload if isinstance(payload, bytes) else payload.encode())


def print_stats(screen: Screen, document: Mapping[str, Any]) -> None:
    """Two lines, and a table of kinds."""
    screen.line((printable(document["database"]), "bold"))
    tiers = document["tiers"]
    facts = [
        (f"partition {printable(document['partition'])}", styles.QUIET),
        (f"{count(document['entries'])} of {count(document['max_entries'])} entries", ""),
        (f"{size(document['payload_bytes'])} of {size(document['max_payload_bytes'])}", ""),
        (plural(document["links"], "link") if document["links"] else "", ""),
        (f"{count(document['unresolved'])} unresolved" if document["unresolved"] else "", ""),
        *((f"{count(n)} {tier}", styles.QUIET) for tier, n in sorted(tiers.items())),
    ]
    screen.prose(screen.joined(facts))
    if document["last_cycle"] is not None:
        when = short_moment(document["last_cycle"].maintained_at)
        screen.line((f"decayed up to {when}", styles.QUIET))
    screen.line()
    rows = [
        [
            Text(printable(kind["kind"])),
            Text(count(kind["entries"]) if kind["entries"] else "-"),
            Text("-" if kind["mean_strength"] is None else f"{kind['mean_strength']:.2f}"),
            Text("-" if kind["starts_at"] is None else f"{kind['starts_at']:.2f}"),
            Text(_half(kind)),
        ]
        for kind in document["kinds"]
    ]
    columns = [Column("kind", right=False), Column("entries"), Column("strength")]
    screen.grid([*columns, Column("begins at"), Column("half is left after")], rows)


def _half(kind: Mapping[str, Any]) -> str:
    ticks, ns = kind["half_life_ticks"], kind["half_life_ns"]
    if kind["decay_rate"] is None:
        return "-"
    if ticks is None or (ns is not None and ns / 86_400e9 > _EVER_DAYS):
        return "practically never" if kind["decay_rate"] else "never"
    if ns is None:
        return plural(round(ticks), "tick")
    days = ns / 86_400e9
    return duration(ns) if days < 3 else f"{days:,.0f} days"
