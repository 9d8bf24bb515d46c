"""Rows of `spans` as frozen values, and which rows somebody asks for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from afterglow.errors import SettingError
from afterglow.model.span import STATUS_CODES, Event, Link, Span, trace_id_hex
from afterglow.store.attributes import decode_attributes

__all__ = ["COLUMNS", "SpanReader", "Where", "matches", "trace_filter", "trace_number"]

#: What `SpanReader.span` takes, in this order.
COLUMNS: Final = (
    "s.id, s.process, s.trace_id, s.span_id, s.parent_span_id, s.name, s.kind, s.start_ns,"
    " s.end_ns, s.attributes, s.status, s.status_description, s.status_text, s.trace_state,"
    " s.trace_flags, s.scope, s.scope_version, s.dropped_attributes, s.dropped_events,"
    " s.dropped_links, s.remote_parent, s.thread_id, s.thread_name, s.task_name, s.event_count,"
    " s.link_count, s.self_ns"
)
_FEW_DIGITS: Final = 10**15
_UNSIGNED: Final = (1 << 64) - 1


class Where:
    """The conditions of a query, all of which must hold; the table is `spans AS s`."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.values: list[Any] = []

    def add(self, term: str, *values: Any) -> None:
        self.terms.append(f"({term})")
        self.values.extend(values)

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self.terms)}" if self.terms else ""

    def status(self, status: str) -> None:
        """unset, ok, error, interrupted, or a text of the program's own."""
        if status == "interrupted":
            self.add("s.end_ns IS NULL")
        elif status in STATUS_CODES:
            self.add("s.status = ?", status)
        else:
            self.add("s.status_text = ?", status)

    def attributes(self, wanted: Mapping[str, Any]) -> None:
        """Rows in which the values may be found; whether they are there is for `matches`."""
        for key, value in wanted.items():
            text = f"{msgspec.json.encode(key).decode()}:"
            # What has one way to be written is looked for as it is written. A number may have
            # two (7 is 7.0), so of it the digits count, if they are few.
            if (
                value is None
                or isinstance(value, str | bool)
                or (isinstance(value, int) and abs(value) < _FEW_DIGITS)
            ):
                text += msgspec.json.encode(value).decode()
            self.add("instr(s.attributes, ?)", text)


def matches(attributes: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether all wanted attributes are there, with the same values; True is not 1."""
    missing = object()
    for key, value in wanted.items():
        found = attributes.get(key, missing)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            return False
    return True


def trace_number(trace_id: int | str) -> int:
    """A trace id that may be hexadecimal. Raises SettingError for what can be none."""
    try:
        number = int(trace_id, 16) if isinstance(trace_id, str) else trace_id
        if not 0 <= number < 1 << 128:
            raise ValueError
    except ValueError:
        raise SettingError(f"trace_id={trace_id!r} is not 32 hexadecimal digits") from None
    return number


def trace_filter(where: Where, trace_id: int | str) -> None:
    """All spans of a trace, found from its roots and from spans whose parent is missing.

    Raises SettingError for what can be no trace id.
    """
    trace = trace_id_hex(trace_number(trace_id))
    where.add(
        """s.id IN (
            WITH RECURSIVE found (id, span_id) AS (
                SELECT id, span_id FROM spans INDEXED BY local_roots
                WHERE trace_id = ? AND (parent_span_id IS NULL OR remote_parent = 1)
                UNION
                SELECT c.id, c.span_id FROM awaited AS a
                JOIN spans AS c ON c.parent_span_id = a.span_id AND c.trace_id = a.trace_id
                WHERE a.trace_id = ?
                UNION
                SELECT c.id, c.span_id FROM found
                JOIN spans AS c ON c.parent_span_id = found.span_id AND c.trace_id = ?
            )
            SELECT id FROM found)""",
        trace, trace, trace,
    )  # fmt: skip


class SpanReader:
    """Makes spans from rows. It holds nothing but the names of processes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._processes: dict[int, tuple[str, int]] = {}

    def spans(self, query: str, values: Sequence[Any]) -> Iterator[Span]:
        """The spans of a query for COLUMNS."""
        for row in self.connection.execute(query, values):
            yield self.span(row)

    def span(self, row: Sequence[Any]) -> Span:
        """The span of one row of COLUMNS."""
        (identity, process, trace, span, parent, name, kind, start, end, attributes, status,
         description, text, trace_state, flags, scope, scope_version, dropped_attributes,
         dropped_events, dropped_links, remote, thread, thread_name, task, events, links,
         _self_ns) = row  # fmt: skip
        run_id, pid = self._processes.get(process) or self._process(process)
        return Span(
            trace_id=int(trace, 16),
            span_id=int(span, 16),
            parent_span_id=0 if parent is None else int(parent, 16),
            name=name,
            kind=kind,
            start_ns=start,
            end_ns=end,
            attributes=decode_attributes(attributes),
            events=tuple(self._events(identity)) if events else (),
            links=tuple(self._links(identity)) if links else (),
            status=status,
            status_description=description,
            status_text=text,
            trace_state=trace_state,
            trace_flags=flags,
            scope=scope,
            scope_version=scope_version,
            dropped_attributes=dropped_attributes,
            dropped_events=dropped_events,
            dropped_links=dropped_links,
            remote_parent=bool(remote),
            run_id=run_id,
            pid=pid,
            thread_id=thread & _UNSIGNED,
            thread_name=thread_name,
            task_name=task,
        )

    def _process(self, process: int) -> tuple[str, int]:
        row = self.connection.execute(
            "SELECT run_id, pid FROM processes WHERE id = ?", (process,)
        ).fetchone()
        found = self._processes[process] = (row[0], row[1]) if row else ("", 0)
        return found

    def _events(self, span: int) -> Iterator[Event]:
        rows = self.connection.execute(
            "SELECT name, time_ns, attributes, dropped_attributes FROM events"
            " WHERE span = ? ORDER BY id",
            (span,),
        )
        for name, time_ns, attributes, dropped in rows:
            yield Event(name, time_ns, decode_attributes(attributes), dropped)

    def _links(self, span: int) -> Iterator[Link]:
        rows = self.connection.execute(
            "SELECT to_trace_id, to_span_id, trace_state, attributes, dropped_attributes"
            " FROM links WHERE span = ? ORDER BY id",
            (span,),
        )
        for trace, target, state, attributes, dropped in rows:
            yield Link(
                int(trace, 16), int(target, 16), state, decode_attributes(attributes), dropped
            )
