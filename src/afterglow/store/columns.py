"""A batch of spans as bytes and back: columns, deltas, tables of what repeats, zstd.

The body of a batch is one msgpack array, compressed with zstd level 1. Columns
are a third smaller than rows and a little dearer to make, 0.3 to 0.4 us a span
(benchmarks/journal.py). In it a list of spans is an array of columns:

    0  trace      deltas of the local roots' ids, the first against 0
    1  span_id    less the trace's value
    2  parent     span_id - parent_span_id, or 0 for a root
    3  names      table of distinct names      4  index into it
    5  start      deltas, ns, monotonic        6  end - start (0 while open)
    7  shapes     table of distinct attribute keys, each an array of keys
    8  index into it, or nil when there is one shape
    9  values     for each shape, one array of values a key
    10 wheres     table of (thread id, thread name[, task name])   11 index into it
    12 extras     nil, or [table of distinct Extras, index], 0 in the index for none and else one
                  more than the place in the table; the index is nil where all have the first.
                  In version 1: {row: Extra}
    13 foreign    {row: 16 bytes} trace ids that are not this process's own
    14 wrapped    true: columns 0 to 2 are differences modulo 2**64

Timestamps become wall time by adding the batch's `wall_offset_ns`, trace ids become 128
bits by `widen(seed, ...)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add, itemgetter, sub
from typing import Any

import msgspec

from afterglow.errors import DamagedStoreError, UnencodableError
from afterglow.model.flat import (
    ATTRIBUTES,
    END,
    EXTRA,
    NAME,
    PARENT_ID,
    SPAN_ID,
    START,
    TRACE,
    WHERE,
    WIDTH,
    Extra,
    Flat,
)
from afterglow.model.run import Process
from afterglow.ports import SpanBatch

try:  # the standard library's own from 3.14
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from backports import zstd

__all__ = [
    "OPEN_AS_BEFORE",
    "BatchHead",
    "Columns",
    "Timings",
    "decode_batch",
    "decode_head",
    "decode_timings",
    "encode_batch",
    "zstd",
]

FORMAT_VERSION = 2
OPEN_AS_BEFORE = -1
_LEVEL = 1
_MASK64 = (1 << 64) - 1
_HALF64 = 1 << 63

_encoder = msgspec.msgpack.Encoder()


class BatchHead(msgspec.Struct, array_like=True, frozen=True):
    """What a batch says besides its spans.

    `open_spans` counts the spans that were open; OPEN_AS_BEFORE says that those of the newest
    batch with a count still are, but for those that have finished since.
    """

    version: int
    spans: int
    open_spans: int
    process: Process
    seed: int
    wall_offset_ns: int
    ledger: dict[str, Any]
    counts: dict[str, int]
    last: bool


class Columns(msgspec.Struct, frozen=True):
    """Decoded columns of equal length; ids are absolute, times monotonic."""

    trace: Sequence[int | bytes]
    span_id: Sequence[int]
    parent_id: Sequence[int]
    names: Sequence[str]
    name_index: Sequence[int]
    start: Sequence[int]
    duration: Sequence[int]
    shapes: Sequence[Sequence[str]]
    shape_index: Sequence[int] | None
    values: Sequence[Sequence[Sequence[Any]]]
    wheres: Sequence[Sequence[Any]]
    where_index: Sequence[int]
    extras: dict[int, Extra]

    def __len__(self) -> int:
        return len(self.span_id)

    def attributes(self) -> list[dict[str, Any]]:
        """The attributes of each row, as dicts."""
        if not self.shapes:
            return []
        groups = [
            [dict(zip(shape, row, strict=True)) for row in zip(*columns, strict=True)]
            for shape, columns in zip(self.shapes, self.values, strict=True)
        ]
        if self.shape_index is None:
            return groups[0] if self.shapes[0] else [{} for _ in self.span_id]
        # An empty shape has no value columns and so no rows of its own to walk through.
        rows = [
            iter(group) if shape else None for shape, group in zip(self.shapes, groups, strict=True)
        ]
        return [{} if (at := rows[i]) is None else next(at) for i in self.shape_index]


class _Body(msgspec.Struct, array_like=True):
    head: BatchHead
    spans: list[Any]
    open: list[Any]


class _TimedColumns(msgspec.Struct, array_like=True):
    """The columns with those left undecoded that take time; a batch without spans has none."""

    trace: msgspec.Raw = msgspec.Raw()
    span_id: msgspec.Raw = msgspec.Raw()
    parent_id: msgspec.Raw = msgspec.Raw()
    names: list[str] = []
    name_index: list[int] = []
    start: msgspec.Raw = msgspec.Raw()
    duration: list[int] = []
    shapes: msgspec.Raw = msgspec.Raw()
    shape_index: msgspec.Raw = msgspec.Raw()
    values: msgspec.Raw = msgspec.Raw()
    wheres: msgspec.Raw = msgspec.Raw()
    where_index: msgspec.Raw = msgspec.Raw()
    extras: msgspec.Raw = msgspec.Raw()


class _TimedBody(msgspec.Struct, array_like=True):
    head: msgspec.Raw
    spans: _TimedColumns


_timed_decoder = msgspec.msgpack.Decoder(_TimedBody)
_body_decoder = msgspec.msgpack.Decoder(_Body)
_head_decoder = msgspec.msgpack.Decoder(tuple[BatchHead, msgspec.Raw, msgspec.Raw])
_extras_type = dict[int, Extra] | tuple[list[Extra], list[int] | None] | None


def encode_batch(batch: SpanBatch) -> bytes:
    """The batch as bytes. Raises UnencodableError if a value in it cannot be carried."""
    head = BatchHead(
        FORMAT_VERSION,
        len(batch),
        OPEN_AS_BEFORE if batch.open is None else len(batch.open) // WIDTH,
        batch.process,
        batch.seed,
        batch.wall_offset_ns,
        dict(batch.ledger),
        batch.counts,
        batch.last,
    )
    try:
        body = _encoder.encode((head, _columns(batch.flat), _columns(batch.open or [])))
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError) as error:
        try:
            open_rows = _columns(batch.open or [], wrap=True)
            wrapped = (head, _columns(batch.flat, wrap=True), open_rows)
            body = _encoder.encode(wrapped)
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError):
            raise UnencodableError(f"a value cannot be encoded: {error}") from error
    compressed: bytes = zstd.compress(body, _LEVEL)
    return compressed


def decode_head(data: bytes) -> BatchHead:
    """The head alone. Raises DamagedStoreError for other bytes."""
    try:
        return _head_decoder.decode(zstd.decompress(data))[0]
    except (zstd.ZstdError, msgspec.DecodeError, ValueError) as error:
        raise DamagedStoreError(f"a batch cannot be decoded: {error}") from error


class Timings(msgspec.Struct, frozen=True):
    """What statistics by name need of the finished spans of a batch; columns of equal length."""

    names: Sequence[str]
    name_index: Sequence[int]
    duration: Sequence[int]
    #: Rows with status error.
    errors: Sequence[int]


def decode_timings(data: bytes) -> Timings:
    """Names, durations and errors alone, in a third of the time that all columns take.

    Raises DamagedStoreError for other bytes.
    """
    try:
        spans = _timed_decoder.decode(zstd.decompress(data)).spans
        given = msgspec.msgpack.decode(spans.extras, type=_extras_type) if spans.names else None
        extras = _extras_by_row(given, len(spans.name_index))
    except (zstd.ZstdError, msgspec.DecodeError, ValueError, LookupError) as error:
        raise DamagedStoreError(f"a batch cannot be decoded: {error}") from error
    errors = [row for row, extra in extras.items() if extra.status == "error"]
    return Timings(spans.names, spans.name_index, spans.duration, errors)


def decode_batch(data: bytes) -> tuple[BatchHead, Columns, Columns]:
    """Head, finished spans and open spans. Raises DamagedStoreError for other bytes."""
    try:
        body = _body_decoder.decode(zstd.decompress(data))
        return body.head, _decoded(body.spans), _decoded(body.open)
    except (zstd.ZstdError, msgspec.DecodeError, ValueError, LookupError, TypeError) as error:
        raise DamagedStoreError(f"a batch cannot be decoded: {error}") from error


def _columns(flat: Flat, *, wrap: bool = False) -> list[Any]:
    if not flat:
        return []
    trace, foreign = _local_traces(flat[TRACE::WIDTH], flat[SPAN_ID::WIDTH])
    span_id = flat[SPAN_ID::WIDTH]
    ids = [
        [trace[0], *map(sub, trace[1:], trace)],
        list(map(sub, span_id, trace)),
        [s - p if p else 0 for s, p in zip(span_id, flat[PARENT_ID::WIDTH], strict=True)],
    ]
    if wrap:
        ids = [[((x + _HALF64) & _MASK64) - _HALF64 for x in column] for column in ids]
    start = flat[START::WIDTH]
    end = flat[END::WIDTH]
    duration = [0] * len(start) if end[0] is None else list(map(sub, end, start))
    extras = flat[EXTRA::WIDTH]
    return [
        *ids,
        *_table(flat[NAME::WIDTH]),
        [start[0], *map(sub, start[1:], start)],
        duration,
        *_attribute_columns(flat[ATTRIBUTES::WIDTH]),
        *_table(flat[WHERE::WIDTH]),
        _extra_table(extras) if any(extras) else None,
        foreign,
        wrap,
    ]


def _local_traces(
    trace: list[int | bytes], span_id: list[int]
) -> tuple[list[int], dict[int, bytes]]:
    """The column with foreign traces taken out; their rows hold the span's own id."""
    if bytes not in set(map(type, trace)):
        return trace, {}  # type: ignore[return-value]
    foreign = {row: t for row, t in enumerate(trace) if type(t) is bytes}
    local = [s if type(t) is bytes else t for t, s in zip(trace, span_id, strict=True)]
    return local, foreign  # type: ignore[return-value]


def _table(column: Iterable[Any]) -> tuple[list[Any], list[int]]:
    column = list(column)
    distinct = list(dict.fromkeys(column))
    if len(distinct) == 1:
        return distinct, [0] * len(column)
    position = dict(zip(distinct, range(len(distinct)), strict=True))
    return distinct, list(map(position.__getitem__, column))


def _extra_table(extras: list[Extra | None]) -> tuple[list[Extra], list[int] | None]:
    """By identity: the spans of a scope share theirs, and others are hardly ever equal."""
    keys = list(map(id, extras))
    distinct = dict(zip(keys, extras, strict=True))
    table = [extra for extra in distinct.values() if extra is not None]
    if len(distinct) == 1:
        return table, None
    there = (key for key, extra in distinct.items() if extra is not None)
    position = dict(zip(there, range(1, len(table) + 1), strict=True))
    return table, [position.get(key, 0) for key in keys]


def _extras_by_row(extras: Any, rows: int) -> dict[int, Extra]:
    """Of either version."""
    if not extras:
        return {}
    if isinstance(extras, dict):
        return extras
    table, index = extras
    if index is None:
        return dict.fromkeys(range(rows), table[0])
    return {row: table[at - 1] for row, at in enumerate(index) if at}


def _attribute_columns(
    column: list[dict[str, Any]],
) -> tuple[list[tuple[str, ...]], list[int] | None, list[list[list[Any]]]]:
    # Nowhere a container per span that lives on: hundreds of them set off the garbage collector,
    # which goes through all of the program's objects while it holds the interpreter lock.
    shapes: list[tuple[str, ...]] = list(dict.fromkeys(map(tuple, column)))
    if len(shapes) == 1:
        return shapes, None, [_values(shapes[0], column)]
    position = dict(zip(shapes, range(len(shapes)), strict=True))
    index = list(map(position.__getitem__, map(tuple, column)))
    groups: list[list[dict[str, Any]]] = [[] for _ in shapes]
    for shape, attributes in zip(index, column, strict=True):
        groups[shape].append(attributes)
    return shapes, index, [_values(*group) for group in zip(shapes, groups, strict=True)]


def _values(shape: tuple[str, ...], group: list[dict[str, Any]]) -> list[list[Any]]:
    return [list(map(itemgetter(key), group)) for key in shape]


def _decoded(columns: list[Any]) -> Columns:
    if not columns:
        return Columns([], [], [], [], [], [], [], [], None, [], [], [], {})
    trace_deltas, span_offsets, parent_offsets, names, name_index, *columns = columns
    start_deltas, duration, shapes, shape_index, values, *columns = columns
    wheres, where_index, extras, foreign, wrapped = columns
    trace: list[Any] = list(accumulate(trace_deltas))
    span_id = list(map(add, span_offsets, trace))
    parent_id = [s - o if o else 0 for s, o in zip(span_id, parent_offsets, strict=True)]
    if wrapped:
        trace, span_id, parent_id = (
            [x & _MASK64 for x in column] for column in (trace, span_id, parent_id)
        )
    for row, trace_id in foreign.items():
        trace[row] = trace_id
    return Columns(
        trace,
        span_id,
        parent_id,
        names,
        name_index,
        list(accumulate(start_deltas)),
        duration,
        shapes,
        shape_index,
        values,
        wheres,
        where_index,
        _extras_by_row(msgspec.convert(extras, _extras_type), len(span_id)) if extras else {},
    )
