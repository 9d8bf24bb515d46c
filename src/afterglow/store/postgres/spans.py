"""Rows of `span` as frozen values, and trees of them: a trace at a time in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from afterglow.analyse.trees import build_trees
from afterglow.model.span import Span
from afterglow.model.tree import SpanNode
from afterglow.store.postgres.connections import Connection
from afterglow.store.postgres.jsonb import read_attributes, read_events, read_links
from afterglow.store.postgres.text import read

__all__ = ["COLUMNS", "TraceTrees", "span_of"]

#: What `span_of` takes, in this order.
COLUMNS: Final = """s.trace_id, s.span_id, s.parent_span_id, s.process_id, s.name, s.start_ns,
  s.end_ns, s.kind, s.status, s.status_description, s.trace_state, s.trace_flags, s.scope,
  s.scope_version, s.dropped_attributes, s.dropped_events, s.dropped_links, s.remote_parent,
  s.attributes::text, s.events::text, s.links::text"""

#: Run id and pid of each process, by its row.
Processes = Mapping[int, tuple[str, int]]

_TRACE: Final = f"""SELECT {COLUMNS} FROM afterglow_spans.span s
  WHERE s.project_id = %s AND s.trace_id = %s"""


def span_of(row: Sequence[Any], processes: Processes) -> Span:
    """The span of one row of COLUMNS."""
    (trace, span, parent, process, name, start, end, kind, status, description, state, flags,
     scope, version, lost_attributes, lost_events, lost_links, remote, attributes, events,
     links) = row  # fmt: skip
    run_id, pid = processes.get(process, ("", 0))
    return Span(
        trace_id=int.from_bytes(trace),
        span_id=int.from_bytes(span),
        parent_span_id=0 if parent is None else int.from_bytes(parent),
        name=read(name),
        kind=kind,
        start_ns=start,
        end_ns=end,
        attributes=read_attributes(attributes),
        events=read_events(events),
        links=read_links(links),
        status=status,
        status_description=read(description),
        trace_state=read(state),
        trace_flags=flags,
        scope=read(scope),
        scope_version=read(version),
        dropped_attributes=lost_attributes,
        dropped_events=lost_events,
        dropped_links=lost_links,
        remote_parent=remote,
        run_id=run_id,
        pid=pid,
    )


class TraceTrees:
    """The trees of one project, read from one snapshot. The newest trace stays in memory, for its
    roots are often asked for one after the other."""

    def __init__(self, connection: Connection, project_id: int, processes: Processes) -> None:
        self._connection = connection
        self._project_id = project_id
        self._processes = processes
        self._trace = b""
        self._nodes: dict[int, SpanNode] = {}

    def node(self, trace: bytes, span: bytes) -> SpanNode | None:
        """The node of a span, with all that is below it; None if a circle hides it."""
        if trace != self._trace:
            rows = self._connection.execute(_TRACE, (self._project_id, trace), binary=True)
            spans = sorted(
                (span_of(row, self._processes) for row in rows),
                key=lambda span: (span.start_ns, span.span_id),
            )
            self._trace, self._nodes = trace, dict(_nodes(spans))
        return self._nodes.get(int.from_bytes(span))


def _nodes(spans: Sequence[Span]) -> Iterator[tuple[int, SpanNode]]:
    for root in build_trees(spans):
        for _, node in root.walk():
            yield node.span.span_id, node
