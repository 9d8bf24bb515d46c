"""What a flush brings, written under the partition's lock in a few statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afterglow.keep.backend import (
    LINK_AT,
    MOST_LINKS,
    Changes,
    Coactivation,
    OnRemoved,
    Put,
    Written,
)
from afterglow.keep.entry import Record
from afterglow.keep.postgres import sql
from afterglow.keep.postgres.removal import remove
from afterglow.keep.postgres.rows import columns_of, tags_of, touch_columns_of
from afterglow.keep.postgres.transactions import Locked
from afterglow.store.postgres.text import kept, read, tag_key

__all__ = ["write_changes", "write_pairs", "write_records"]

#: So many bytes of payload go in one statement; the protocol takes 1 GiB.
_STATEMENT_BYTES = 16 << 20


def write_changes(
    locked: Locked, changes: Changes, now_ns: int, on_removed: OnRemoved | None
) -> Written:
    """Write in the order that the seam says."""
    written = Written()
    remove(locked, changes.gone, on_removed)
    written.tombstones = len(changes.gone)
    _put(locked, changes.puts)
    written.entries = len(changes.puts)
    if changes.touched:
        touched = locked.execute(sql.TOUCH, **touch_columns_of(changes.touched)).rowcount
        locked.affected.update(record.trace_id for record in changes.touched)
        locked.rows += touched
        written.entries += touched
        written.missing += len(changes.touched) - touched
    if changes.links:
        written.links, missing = _link(locked, changes.links)
        written.missing += missing
    locked.ingested += changes.ingested
    if locked.changed():
        locked.changed_at = now_ns
    return written


def _put(locked: Locked, puts: Sequence[Put]) -> None:
    if not puts:
        return
    # Who replaces an entry replaces no row that spans hang on, so nobody is told.
    remove(locked, [put.record.trace_id for put in puts if put.fresh], None)
    kept_on = [put.record for put in puts if not put.fresh]
    tags_stay = _forget_old(locked, kept_on) if kept_on else set()
    write_records(locked, [put.record for put in puts], tags_stay)


def _forget_old(locked: Locked, records: Sequence[Record]) -> set[str]:
    """Take the old rows out of the totals, and their tags away where they changed; the ids
    whose tags stay as they are."""
    by_key = {kept(record.trace_id): record for record in records}
    old = locked.execute(sql.OLD, ids=list(by_key)).fetchall()
    same, changed = set(), []
    for key, size, fades, parent_id, tags in old:
        locked.affected.add(by_key[key].trace_id)
        locked.entries -= 1
        locked.payload_bytes -= size
        locked.fading -= fades
        if parent_id is not None:
            locked.affected.add(read(parent_id))
        if tags == tags_of(by_key[key]):
            same.add(by_key[key].trace_id)
        elif tags != "[]":
            changed.append(key)
    if changed:
        locked.rows += locked.execute(sql.REMOVE_TAGS, ids=changed).rowcount
    return same


def write_records(locked: Locked, records: Sequence[Record], tags_stay: set[str]) -> None:
    """Insert or replace rows, and add to the totals; what was there is out of them already."""
    for portion in _portions(records):
        locked.rows += locked.execute(sql.PUT, **columns_of(portion)).rowcount
    tags = [
        (kept(record.trace_id), tag_key(tag))
        for record in records
        if record.trace_id not in tags_stay
        for tag in dict.fromkeys(record.tags)
    ]
    if tags:
        ids, keys = map(list, zip(*tags, strict=True))
        locked.rows += locked.execute(sql.PUT_TAGS, ids=ids, tags=keys).rowcount
    locked.entries += len(records)
    locked.payload_bytes += sum(record.payload_bytes for record in records)
    locked.fading += sum(record.decay_rate > 0 for record in records)
    # Of an entry that was not there nobody has a copy; of one that was, whoever took it away
    # has said so.
    locked.affected.update(r.parent_id for r in records if r.parent_id is not None)


def _portions(records: Sequence[Record]) -> Iterator[list[Record]]:
    portion: list[Record] = []
    size = 0
    for record in records:
        if portion and size + record.payload_bytes > _STATEMENT_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(record)
        size += record.payload_bytes
    if portion:
        yield portion


# --- links --------------------------------------------------------------------------------


def _link(locked: Locked, links: Sequence[Coactivation]) -> tuple[int, int]:
    """Count co-activations, and link what may; how many there were, and how many were missing."""
    keys = [(kept(link.a), kept(link.b)) for link in links]
    # How many links each entry has; who is not in here is not there.
    ids = sorted({key for pair in keys for key in pair})
    links_of: dict[str, int] = dict(locked.execute(sql.LINK_COUNTS, ids=ids).fetchall())
    known = {
        (a, b): (count, linked)
        for a, b, count, linked in locked.execute(
            sql.COUNTS, a=[a for a, _ in keys], b=[b for _, b in keys]
        )
    }
    pairs: dict[tuple[str, str], tuple[int, bool]] = {}
    missing = 0
    for link, pair in zip(links, keys, strict=True):
        a, b = pair
        if a not in links_of or b not in links_of:
            missing += 1
            continue
        count, linked = pairs.get(pair) or known.get(pair, (0, False))
        count += link.times
        room = max(links_of[a], links_of[b]) < MOST_LINKS
        if not linked and room and _may_link(link, count):
            linked = True
            links_of[a] += 1
            links_of[b] += 1
            locked.affected.update((link.a, link.b))
        pairs[pair] = (count, linked)
    write_pairs(locked, [(a, b, count, linked) for (a, b), (count, linked) in pairs.items()])
    return len(links) - missing, missing


def _may_link(link: Coactivation, count: int) -> bool:
    return count >= LINK_AT if link.link is None else link.link


def write_pairs(locked: Locked, pairs: Sequence[tuple[str, str, int, bool]]) -> None:
    """Insert or replace pairs (ids as they are kept), in both directions."""
    if not pairs:
        return
    both = [*pairs, *((b, a, count, linked) for a, b, count, linked in pairs)]
    a, b, count, linked = map(list, zip(*both, strict=True))
    locked.rows += locked.execute(sql.PUT_PAIRS, a=a, b=b, count=count, linked=linked).rowcount
