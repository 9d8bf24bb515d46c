"""The one JSON document that `--json` prints: stable keys, units in their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from afterglow.model.run import Run
from afterglow.model.span import span_id_hex, trace_id_hex

if TYPE_CHECKING:
    from afterglow.model.statistics import NameStatistics
    from afterglow.model.tree import SpanNode

__all__ = ["span_document", "statistics_document", "write_document", "write_traces"]


def write_document(file: TextIO, document: object) -> None:
    """Print a document, indented by two, and a line end."""
    file.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def statistics_document(
    run: Run, statistics: Sequence[NameStatistics], counts: Mapping[str, int], ledger: object
) -> dict[str, Any]:
    """What `afterglow report --json` says of a run."""
    return {
        "run": run,
        "names": [_name_document(s) for s in statistics],
        "counted": [
            {"name": name, "calls": calls}
            for name, calls in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
        "ledger": ledger,
    }


def _name_document(s: NameStatistics) -> dict[str, Any]:
    return {
        "name": s.name,
        "count": s.count,
        "total_ns": s.total_ns,
        "self_ns": s.self_ns,
        "mean_ns": s.mean_ns,
        "p50_ns": s.p50_ns,
        "p95_ns": s.p95_ns,
        "p99_ns": s.p99_ns,
        "min_ns": s.min_ns,
        "max_ns": s.max_ns,
        "errors": s.errors,
        "error_rate": s.error_rate,
        "interrupted": s.interrupted,
    }


def span_document(node: SpanNode, depth: int) -> dict[str, Any]:
    """One span of a tree; ids are hexadecimal, and `depth` is 0 for the top."""
    span = node.span
    return {
        "name": span.name,
        "depth": depth,
        "span_id": span_id_hex(span.span_id),
        "parent_span_id": span_id_hex(span.parent_span_id) if span.parent_span_id else None,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "total_ns": span.duration_ns,
        "self_ns": node.self_ns,
        "kind": span.kind,
        "status": span.status,
        "status_description": span.status_description,
        "status_text": span.status_text,
        "interrupted": span.interrupted,
        "attributes": span.attributes,
        "events": span.events,
        "pid": span.pid,
        "thread_id": span.thread_id,
        "thread_name": span.thread_name,
        "task_name": span.task_name,
    }


def write_traces(file: TextIO, run: Run, roots: Iterable[SpanNode]) -> None:
    """`{"run": ..., "traces": [{"trace_id": ..., "spans": [...]}, ...]}`, spans depth first.

    The spans of a trace are a flat list, because a trace may be deeper than JSON readers can
    go; they are written one by one, one a line.
    """
    encode = msgspec.json.encode
    file.write('{"run": ' + encode(run).decode() + ',\n"traces": [')
    for i, root in enumerate(roots):
        trace_id = trace_id_hex(root.span.trace_id)
        file.write((",\n" if i else "\n") + f'{{"trace_id": "{trace_id}", "spans": [')
        separator = "\n"
        for depth, node in root.walk():
            file.write(separator + encode(span_document(node, depth)).decode())
            separator = ",\n"
        file.write("\n]}")
    file.write("\n]}\n")
