"""Self times and places of spans, from what is known when they come: pure.

The rows of a trace are locked while this is worked out, so what is known is all there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from afterglow.analyse.cover import covered_ns
from afterglow.store.postgres.lines import NewSpan

__all__ = ["ABSENT", "ELSEWHERE", "HERE", "Known", "Settled", "settled"]

#: Where the parent of a span is: in the store and of the same process, of another, or not there.
HERE: Final = 0
ELSEWHERE: Final = 1
ABSENT: Final = 2

Key = tuple[int, str, str]


class Known(NamedTuple):
    """A span that is in the table."""

    key: Key
    parent: str | None
    start_ns: int
    end_ns: int
    process_id: int
    self_ns: int
    place: int


class Settled(msgspec.Struct):
    """What to insert, and what to change of what is there."""

    #: Spans that are not there yet, with their self times and places.
    fresh: list[tuple[NewSpan, int, int]]
    #: Those that are: each came again.
    repeated: list[NewSpan]
    #: By key: the new self time and place of rows that are there.
    changed: dict[Key, tuple[int, int]]


def settled(spans: Iterable[NewSpan], known: Sequence[Known]) -> Settled:
    """`known` has, of the traces in `spans` that are in the table, the rows of their ids, of
    their parents, and all that have one of these as parent."""
    there = {row.key: row for row in known}
    fresh: dict[Key, NewSpan] = {}
    repeated = []
    for span in spans:
        if span.key in there or span.key in fresh:
            repeated.append(span)
        else:
            fresh[span.key] = span
    children: defaultdict[Key, list[tuple[int, int]]] = defaultdict(list)
    everything: list[NewSpan | Known] = [*fresh.values(), *known]
    for one in everything:
        if one.parent is not None:
            children[one.key[0], one.key[1], one.parent].append((one.start_ns, one.end_ns))
    processes = {one.key: one.process_id for one in everything}
    inserted = [
        (span, _self_ns(span, children), _place(span, processes)) for span in fresh.values()
    ]
    changed: dict[Key, tuple[int, int]] = {}
    parents = {(*span.key[:2], span.parent) for span in fresh.values() if span.parent is not None}
    for row in known:
        self_ns, place = row.self_ns, row.place
        if row.key in parents:  # it got a child; all of its children are known
            self_ns = _self_ns(row, children)
        if row.parent is not None and (*row.key[:2], row.parent) in fresh:
            place = _place(row, processes)
        if (self_ns, place) != (row.self_ns, row.place):
            changed[row.key] = self_ns, place
    return Settled(inserted, repeated, changed)


def _self_ns(span: NewSpan | Known, children: dict[Key, list[tuple[int, int]]]) -> int:
    intervals = children.get(span.key)
    whole = span.end_ns - span.start_ns
    if not intervals:
        return whole
    intervals.sort()
    return whole - covered_ns(intervals, span.start_ns, span.end_ns)


def _place(span: NewSpan | Known, processes: dict[Key, int]) -> int:
    if span.parent is None:
        return ABSENT
    of_parent = processes.get((span.key[0], span.key[1], span.parent))
    if of_parent is None:
        return ABSENT
    return HERE if of_parent == span.process_id else ELSEWHERE
