"""Spans kept in memory, packed: for programs that look at their own spans and leave no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afterglow.model.flat import Flat, spans_of
from afterglow.model.span import Span
from afterglow.ports import SpanBatch
from afterglow.store.columns import Columns, decode_batch, encode_batch

__all__ = ["MemorySink"]


class MemorySink:
    """A ports.SpanSink that keeps each batch as the bytes a journal would hold (about 20 a span).

    As live objects the spans would make every collection of the program's own garbage longer.
    Nothing bounds them: whoever records for days gives a file.
    """

    def __init__(self) -> None:
        #: Owner: the writer's thread appends; readers take a copy.
        self._bodies: list[bytes] = []
        self._bytes = 0

    def write(self, batch: SpanBatch) -> None:
        if len(batch):
            body = encode_batch(batch)
            self._bodies.append(body)
            self._bytes += len(body)

    def spans(self) -> Iterator[Span]:
        """All finished spans so far, in the order of their ends; in any thread, after close too."""
        for body in self._bodies.copy():
            head, finished, _open = decode_batch(body)
            yield from spans_of(
                _flat(finished),
                seed=head.seed,
                wall_offset_ns=head.wall_offset_ns,
                run_id=head.process.run_id,
                pid=head.process.pid,
            )

    def after_fork(self) -> None:
        """A child goes on with a copy of its own."""

    def close(self) -> None:
        """Nothing to release: what was kept can still be read."""

    def counters(self) -> Mapping[str, Any]:
        return {"memory_bytes": self._bytes}


def _flat(columns: Columns) -> Flat:
    attributes = columns.attributes()
    return [
        value
        for row, (trace, span_id, parent_id, name, start, duration, where) in enumerate(
            zip(
                columns.trace,
                columns.span_id,
                columns.parent_id,
                columns.name_index,
                columns.start,
                columns.duration,
                columns.where_index,
                strict=True,
            )
        )
        for value in (
            trace,
            span_id,
            parent_id,
            columns.names[name],
            start,
            start + duration,
            attributes[row],
            columns.wheres[where],
            columns.extras.get(row),
        )
    ]
