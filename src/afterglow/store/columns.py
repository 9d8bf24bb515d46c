"""A batch of spans as bytes and back: columns, deltas, tables of what repeats, zstd.

The body of a batch is one msgpack array, compressed with zstd level 1 (smaller and cheaper
than rows at once: benchmarks/journal.py). In it a list of spans is an array of columns:

    0  trace      deltas of the local roots' ids, the first against 0
    1  span_id    less the trace's value
    2  parent     span_id - parent_span_id, or 0 for a root
    3  names      table of distinct names      4  index into it
    5  start      deltas, ns, monotonic        6  end - start (0 while open)
    7  shapes     table of distinct attribute keys, each an array of keys
    8  index into it, or nil when there is one shape
    9  values     for each shape, one array of values a key
    10 wheres     table of (thread id, thread name[, task name])   11 index into it
    12 extras     {row: Extra} of the few that have one
    13 foreign    {row: 16 bytes} trace ids that are not this process's own
    14 wrapped    true: columns 0 to 2 are differences modulo 2**64

Timestamps become wall time by adding the batch's `wall_offset_ns`, trace ids become 128
bits by `widen(seed, ...)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add, sub
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

__all__ = ["BatchHead", "Columns", "decode_batch", "encode_batch"]

FORMAT_VERSION = 1
_LEVEL = 1
_MASK64 = (1 << 64) - 1
_HALF64 = 1 << 63

_encoder = msgspec.msgpack.Encoder()


class BatchHead(msgspec.Struct, array_like=True, frozen=True):
    """What a batch says besides its spans."""

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
            iter(group) if shape else None
            for shape, group in zip(self.shapes, groups, strict=True)
        ]
        return [{} if (at := rows[i]) is None else next(at) for i in self.shape_index]


class _Body(msgspec.Struct, array_like=True):
    head: BatchHead
    spans: list[Any]
    open: list[Any]


_body_decoder = msgspec.msgpack.Decoder(_Body)
_head_decoder = msgspec.msgpack.Decoder(tuple[BatchHead, msgspec.Raw, msgspec.Raw])
_extras_type = dict[int, Extra]


def encode_batch(batch: SpanBatch) -> bytes:
    """The batch as bytes. Raises UnencodableError if a value in it cannot be carried."""
    head = BatchHead(
        FORMAT_VERSION,
        len(batch),
        len(batch.open) // WIDTH,
        batch.process,
        batch.seed,
        batch.wall_offset_ns,
        dict(batch.ledger),
        batch.counts,
        batch.last,
    )
    try:
        body = _encoder.encode((head, _columns(batch.flat), _columns(batch.open)))
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError) as error:
        try:
            wrapped = (head, _columns(batch.flat, wrap=True), _columns(batch.open, wrap=True))
            body = _encoder.encode(wrapped)
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError):
            raise UnencodableError(f"a value cannot be encoded: {error}") from error
    return zstd.compress(body, _LEVEL)


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
        {row: extra for row, extra in enumerate(extras) if extra is not None}
        if any(extras)
        else {},
        foreign,
        wrap,
    ]


def _local_traces(
    trace: list[int | bytes], span_id: list[int]
) -> tuple[list[int], dict[int, bytes]]:
    """The column with foreign traces taken out; their rows hold the span's own id."""
    foreign = {row: t for row, t in enumerate(trace) if type(t) is bytes}
    local = [s if type(t) is bytes else t for t, s in zip(trace, span_id, strict=True)]
    return local, foreign  # type: ignore[return-value]


def _table(column: Iterable[Any]) -> tuple[list[Any], list[int]]:
    column = list(column)
    distinct = list(dict.fromkeys(column))
    position = dict(zip(distinct, range(len(distinct)), strict=True))
    return distinct, list(map(position.__getitem__, column))


def _attribute_columns(
    column: list[dict[str, Any]],
) -> tuple[list[tuple[str, ...]], list[int] | None, list[list[tuple[Any, ...]]]]:
    shapes, index = _table(map(tuple, column))
    if len(shapes) == 1:
        return shapes, None, [list(zip(*map(dict.values, column), strict=True))]
    groups: list[list[dict[str, Any]]] = [[] for _ in shapes]
    for shape, attributes in zip(index, column, strict=True):
        groups[shape].append(attributes)
    return shapes, index, [list(zip(*map(dict.values, g), strict=True)) for g in groups]


def _decoded(columns: list[Any]) -> Columns:
    if not columns:
        return Columns([], [], [], [], [], [], [], [], None, [], [], [], {})
    (trace_deltas, span_offsets, parent_offsets, names, name_index, start_deltas, duration,
     shapes, shape_index, values, wheres, where_index, extras, foreign, wrapped) = columns  # fmt: skip
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
        msgspec.convert(extras, _extras_type) if extras else {},
    )
