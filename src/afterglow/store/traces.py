"""Trees read from the file as somebody walks them: nothing is held but the way down."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, overload

from afterglow.model.tree import SpanNode
from afterglow.store.failures import explained
from afterglow.store.spans import COLUMNS, SpanReader, Where

__all__ = ["TraceReader"]

# So many children are read at once; of fewer no cursor stays open while somebody walks below.
_AT_ONCE: Final = 256

# A span without an end counts as if it had gone on until its process was last heard of.
_LENGTH: Final = (
    "coalesce(s.duration_ns,"
    " (SELECT p.seen_ns FROM processes AS p WHERE p.id = s.process) - s.start_ns)"
)
_LOCAL_ROOT: Final = "(s.parent_span_id IS NULL OR s.remote_parent = 1)"


class TraceReader:
    """Roots, slowest first, and the children of any span."""

    def __init__(self, path: Path, reader: SpanReader) -> None:
        self._path = path
        self._reader = reader

    def roots(self, run: Where, run_id: str | None, limit: int | None) -> Iterator[SpanNode]:
        """A node for each span without a parent in the file, or in the run if there is one.

        `run` says which spans are looked at: those of the run `run_id`, or all for None.
        """
        most = -1 if limit is None else limit
        with explained(self._path):
            ways = [self._true_roots(run, run_id, most), self._orphans(run, most)]
            slowest = heapq.merge(*ways, key=lambda found: found[1], reverse=True)
            for identity, _length in islice(slowest, limit):
                query = f"SELECT {COLUMNS} FROM spans AS s WHERE s.id = ?"
                for row in self._reader.connection.execute(query, (identity,)).fetchall():
                    yield self._node(row, is_leaf=False)

    def _true_roots(self, run: Where, run_id: str | None, most: int) -> Iterator[tuple[int, int]]:
        """Id and length of roots, and of spans whose parent another run of this file has."""
        where = Where()
        where.terms, where.values = list(run.terms), list(run.values)
        where.add(_LOCAL_ROOT)
        if run_id is None:
            where.add("s.parent_span_id IS NULL")
        else:
            elsewhere = (
                "FROM spans AS p JOIN processes AS q ON q.id = p.process"
                " WHERE p.span_id = s.parent_span_id AND p.trace_id = s.trace_id AND q.run_id"
            )
            where.add(
                f"s.parent_span_id IS NULL OR (EXISTS (SELECT 1 {elsewhere} <> ?)"
                f" AND NOT EXISTS (SELECT 1 {elsewhere} = ?))",
                run_id,
                run_id,
            )
        # Few roots are looked up by their index; of many, reading all spans in their order is
        # quicker than jumping to each.
        (spans,) = self._one("SELECT coalesce(max(id), 0) FROM spans")
        roots_index = "FROM spans AS s INDEXED BY local_roots"
        (roots,) = self._one(
            f"SELECT count(*) FROM (SELECT 1 {roots_index} WHERE {_LOCAL_ROOT} LIMIT ?)",
            spans // 16 + 1,
        )
        source = roots_index if roots <= spans // 16 else "FROM spans AS s NOT INDEXED"
        query = f"SELECT s.id, {_LENGTH} AS length {source} {where} ORDER BY 2 DESC, 1 LIMIT ?"
        yield from self._reader.connection.execute(query, (*where.values, most))

    def _orphans(self, run: Where, most: int) -> Iterator[tuple[int, int]]:
        """Id and length of spans whose parent is not in the file at all."""
        where = Where()
        where.terms, where.values = list(run.terms), list(run.values)
        where.add(
            "NOT EXISTS (SELECT 1 FROM spans AS p WHERE p.span_id = a.span_id"
            " AND p.trace_id = a.trace_id)"
        )
        query = (
            f"SELECT s.id, {_LENGTH} AS length FROM awaited AS a CROSS JOIN spans AS s"
            " ON s.parent_span_id = a.span_id AND s.trace_id = a.trace_id"
            f" {where} ORDER BY 2 DESC, 1 LIMIT ?"
        )
        yield from self._reader.connection.execute(query, (*where.values, most))

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._reader.connection.execute(query, values).fetchone()
        return row

    def _node(self, row: Sequence[Any], *, is_leaf: bool) -> SpanNode:
        children: Sequence[SpanNode] = () if is_leaf else _Children(self, row[2], row[3])
        return SpanNode(self._reader.span(row), children, row[-1])

    # --- children -------------------------------------------------------------------------

    def children(
        self, trace: str, span: str, limit: int = -1, offset: int = 0
    ) -> Iterator[SpanNode]:
        """The children of a span by start time, in portions."""
        with explained(self._path):
            rows = self._reader.connection.execute(
                f"SELECT {COLUMNS} FROM spans AS s"
                " WHERE s.parent_span_id = ? AND s.trace_id = ? AND s.parent_span_id <> s.span_id"
                " ORDER BY s.start_ns, s.id LIMIT ? OFFSET ?",
                (span, trace, limit, offset),
            )
            while portion := rows.fetchmany(_AT_ONCE):
                if len(portion) < _AT_ONCE:
                    rows.close()
                    rows = _NOTHING_MORE
                parents = self._parents_among(portion)
                for row in portion:
                    yield self._node(row, is_leaf=row[3] not in parents)

    def _parents_among(self, rows: Sequence[Sequence[Any]]) -> set[str]:
        """Which of these have children: asked once for all, for most have none."""
        if len(rows) == 1:
            return {rows[0][3]}
        marks = ", ".join("?" * len(rows))
        query = f"SELECT DISTINCT parent_span_id FROM spans WHERE parent_span_id IN ({marks})"
        found = self._reader.connection.execute(query, [row[3] for row in rows])
        return {parent for (parent,) in found}

    def count_children(self, trace: str, span: str) -> int:
        with explained(self._path):
            query = (
                "SELECT count(*) FROM spans WHERE parent_span_id = ? AND trace_id = ?"
                " AND parent_span_id <> span_id"
            )
            count: int = self._one(query, span, trace)[0]
            return count


class _Done:
    """A cursor that has no more rows."""

    def fetchmany(self, size: int) -> list[Any]:
        return []

    def close(self) -> None:
        return


_NOTHING_MORE: Any = _Done()


class _Children(Sequence[SpanNode]):
    """The children of one span, read again each time they are looked at."""

    __slots__ = ("_reader", "_span", "_trace")

    def __init__(self, reader: TraceReader, trace: str, span: str) -> None:
        self._reader = reader
        self._trace = trace
        self._span = span

    def __iter__(self) -> Iterator[SpanNode]:
        return self._reader.children(self._trace, self._span)

    def __len__(self) -> int:
        return self._reader.count_children(self._trace, self._span)

    @overload
    def __getitem__(self, index: int) -> SpanNode: ...
    @overload
    def __getitem__(self, index: slice) -> list[SpanNode]: ...
    def __getitem__(self, index: int | slice) -> SpanNode | list[SpanNode]:
        if isinstance(index, slice):
            return list(self)[index]
        position = index if index >= 0 else len(self) + index
        found = (
            next(self._reader.children(self._trace, self._span, 1, position), None)
            if position >= 0
            else None
        )
        if found is None:
            raise IndexError(f"there is no child {index}")
        return found
