"""Spans on their way into the tables: columns of text and numbers, as the tables have them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import compress
from operator import add
from typing import Any, Final

import msgspec

from afterglow.model.flat import Extra, widen
from afterglow.model.span import Event, Link, Span, span_id_hex, trace_id_hex
from afterglow.store.attributes import encode_attributes, encode_column
from afterglow.store.columns import BatchHead, Columns

__all__ = ["EXTRA_COLUMNS", "TYPICAL", "Rows", "rows_of_columns", "rows_of_spans", "some_rows"]

_SIGNED: Final = 1 << 63

#: The columns of `spans` that most rows leave at their defaults.
EXTRA_COLUMNS: Final = (
    "kind", "status", "status_description", "status_text", "trace_state", "trace_flags",
    "scope", "scope_version", "dropped_attributes", "dropped_events", "dropped_links",
    "remote_parent", "event_count", "link_count",
)  # fmt: skip
_STATUS: Final = EXTRA_COLUMNS.index("status")
#: What the others are then.
TYPICAL: Final = ("internal", "unset", "", "", "", 1, "", "", 0, 0, 0, False, 0, 0)


class Rows(msgspec.Struct):
    """Columns of equal length; times are wall-clock ns. Open spans have None in `end_ns`."""

    trace_id: Sequence[str]
    span_id: Sequence[str]
    parent_span_id: Sequence[str | None]
    name: Sequence[str]
    start_ns: Sequence[int]
    end_ns: Sequence[int | None]
    duration_ns: Sequence[int | None]
    attributes: Sequence[str]
    thread_id: Sequence[int]
    thread_name: Sequence[str]
    task_name: Sequence[str]
    #: By row, for the few that need them: values of EXTRA_COLUMNS, events, links.
    extras: dict[int, tuple[Any, ...]]
    events: dict[int, Sequence[Event]]
    links: dict[int, Sequence[Link]]
    #: Of the finished ones.
    errors: int
    #: How many have not ended.
    open_rows: int

    def __len__(self) -> int:
        return len(self.span_id)


def rows_of_columns(head: BatchHead, columns: Columns, *, are_open: bool = False) -> Rows:
    """The rows of a decoded batch."""
    offset = head.wall_offset_ns
    start = [ns + offset for ns in columns.start]
    wheres = [_where(where) for where in columns.wheres]
    at = columns.where_index
    count = len(columns)
    return Rows(
        trace_id=_trace_ids(head.seed, columns.trace),
        span_id=_hexadecimal(columns.span_id),
        parent_span_id=[
            text if number else None
            for text, number in zip(_hexadecimal(columns.parent_id), columns.parent_id, strict=True)
        ],
        name=[columns.names[i] for i in columns.name_index],
        start_ns=start,
        end_ns=[None] * count if are_open else list(map(add, start, columns.duration)),
        duration_ns=[None] * count if are_open else columns.duration,
        attributes=encode_column(columns),
        thread_id=[wheres[i][0] for i in at],
        thread_name=[wheres[i][1] for i in at],
        task_name=[wheres[i][2] for i in at],
        extras=_extra_rows(columns.extras),
        events={
            row: [
                Event(e.name, e.time_ns + offset, e.attributes, e.dropped_attributes)
                for e in extra.events
            ]
            for row, extra in columns.extras.items()
            if extra.events
        },
        links={
            row: [link.link() for link in extra.links]
            for row, extra in columns.extras.items()
            if extra.links
        },
        errors=0 if are_open else sum(extra.status == "error" for extra in columns.extras.values()),
        open_rows=count if are_open else 0,
    )


def _hexadecimal(ids: Sequence[int]) -> list[str]:
    """16 digits each, in a few C calls for the whole column."""
    if not ids:
        return []
    numbers = array("Q", ids)
    if _LITTLE:
        numbers.byteswap()
    return numbers.tobytes().hex(",", 8).split(",")


_LITTLE: Final = array("H", [1]).tobytes() == b"\1\0"


def _trace_ids(seed: int, traces: Sequence[int | bytes]) -> list[str]:
    texts = {trace: trace_id_hex(widen(seed, trace)) for trace in set(traces)}
    return list(map(texts.__getitem__, traces))


def _where(where: Sequence[Any]) -> tuple[int, str, str]:
    """Thread id (in SQLite's signed 64 bits), thread name, task name."""
    return _signed(where[0]), where[1], where[2] if len(where) > 2 else ""


def _signed(number: int) -> int:
    return ((number + _SIGNED) % (2 * _SIGNED)) - _SIGNED


def _extra_rows(extras: dict[int, Extra]) -> dict[int, tuple[Any, ...]]:
    """The values of each once: the spans of a scope share theirs."""
    values = {id(extra): extra for extra in extras.values()}
    made = {at: _extra_values(extra) for at, extra in values.items()}
    return {row: made[id(extra)] for row, extra in extras.items()}


def _extra_values(extra: Extra) -> tuple[Any, ...]:
    return (
        extra.kind, extra.status, extra.status_description, extra.status_text,
        extra.trace_state, 1, extra.scope, extra.scope_version, extra.dropped_attributes,
        extra.dropped_events, extra.dropped_links, extra.remote_parent,
        len(extra.events), len(extra.links),
    )  # fmt: skip


def rows_of_spans(spans: Sequence[Span]) -> Rows:
    """The rows of frozen spans."""
    extras: dict[int, tuple[Any, ...]] = {}
    for row, span in enumerate(spans):
        values = (
            span.kind, span.status, span.status_description, span.status_text,
            span.trace_state, span.trace_flags, span.scope, span.scope_version,
            span.dropped_attributes, span.dropped_events, span.dropped_links,
            span.remote_parent, len(span.events), len(span.links),
        )  # fmt: skip
        if values != TYPICAL:
            extras[row] = values
    return Rows(
        trace_id=[trace_id_hex(span.trace_id) for span in spans],
        span_id=[span_id_hex(span.span_id) for span in spans],
        # A span that names itself as its parent is a root.
        parent_span_id=[
            None if s.parent_span_id in (0, s.span_id) else span_id_hex(s.parent_span_id)
            for s in spans
        ],
        name=[span.name for span in spans],
        start_ns=[span.start_ns for span in spans],
        end_ns=[span.end_ns for span in spans],
        duration_ns=[span.duration_ns for span in spans],
        attributes=[encode_attributes(span.attributes) for span in spans],
        thread_id=[_signed(span.thread_id) for span in spans],
        thread_name=[span.thread_name for span in spans],
        task_name=[span.task_name for span in spans],
        extras=extras,
        events={row: span.events for row, span in enumerate(spans) if span.events},
        links={row: span.links for row, span in enumerate(spans) if span.links},
        errors=sum(span.status == "error" and span.end_ns is not None for span in spans),
        open_rows=sum(span.end_ns is None for span in spans),
    )


def some_rows(rows: Rows, wanted: Sequence[bool]) -> Rows:
    """Those rows for which `wanted` is true, in their order."""
    new = {row: at for at, row in enumerate(compress(range(len(rows)), wanted))}
    ended = [end is not None for end in compress(rows.end_ns, wanted)]
    extras = {new[row]: values for row, values in rows.extras.items() if wanted[row]}
    return Rows(
        trace_id=list(compress(rows.trace_id, wanted)),
        span_id=list(compress(rows.span_id, wanted)),
        parent_span_id=list(compress(rows.parent_span_id, wanted)),
        name=list(compress(rows.name, wanted)),
        start_ns=list(compress(rows.start_ns, wanted)),
        end_ns=list(compress(rows.end_ns, wanted)),
        duration_ns=list(compress(rows.duration_ns, wanted)),
        attributes=list(compress(rows.attributes, wanted)),
        thread_id=list(compress(rows.thread_id, wanted)),
        thread_name=list(compress(rows.thread_name, wanted)),
        task_name=list(compress(rows.task_name, wanted)),
        extras=extras,
        events={new[row]: events for row, events in rows.events.items() if wanted[row]},
        links={new[row]: links for row, links in rows.links.items() if wanted[row]},
        errors=sum(ended[row] and values[_STATUS] == "error" for row, values in extras.items()),
        open_rows=ended.count(False),
    )
