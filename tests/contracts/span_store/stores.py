"""The stores of spans behind one face, so that one suite can ask the same of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from afterglow.clock import Clock
from afterglow.config import RetentionConfig
from afterglow.keep.postgres.retention import PostgresRetention
from afterglow.keep.retention import Retention
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentSink
from afterglow.sink.postgres import PostgresSink
from afterglow.sink.project_files import project_path
from afterglow.sink.store import StoreSink
from afterglow.store.postgres.read import PostgresDatabase
from afterglow.store.read import Database


class SpanStore(Protocol):
    """A store of spans: sinks write it, readers read a project of it."""

    def sink(self) -> SegmentSink: ...

    def open(self, project: str = "default") -> Any: ...

    def keeper(self, config: RetentionConfig, clock: Clock, project: str = "default") -> Any: ...


class FileStore:
    """SQLite files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "afterglow.db"

    def sink(self) -> SegmentSink:
        return StoreSink(self.path)

    def open(self, project: str = "default") -> Any:
        return Database(project_path(self.path, project))

    def keeper(self, config: RetentionConfig, clock: Clock, project: str = "default") -> Any:
        return Retention(project_path(self.path, project), config, clock=clock)


class ServerStore:
    """A database of a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def sink(self) -> SegmentSink:
        return PostgresSink(self.url)

    def open(self, project: str = "default") -> Any:
        return PostgresDatabase(self.url, project)

    def keeper(self, config: RetentionConfig, clock: Clock, project: str = "default") -> Any:
        return PostgresRetention(self.url, project, config, clock=clock)


def fill(store: SpanStore, *pages: Sequence[SegmentPart]) -> None:
    """Write pages by a sink of their own."""
    sink = store.sink()
    try:
        for page in pages:
            sink.write(page)
    finally:
        sink.close()


def seen(store: SpanStore, project: str = "default") -> dict[str, Any]:
    """What readers see of a project, without what the order of arrival may change."""
    with store.open(project) as opened:
        runs = {run.run_id: run for run in opened.runs()}
        audits = opened.audit()
        assert all(audit.agrees for audit in audits)
        return {
            "statistics": opened.statistics(),
            "by run": {run: opened.statistics(run=run) for run in runs},
            "runs": runs,
            "audit": {audit.process.run_id: (audit.ledger, audit.found) for audit in audits},
            "spans": _spans(opened.spans()),
            "trees": sorted(map(_tree, opened.traces())),
            "trees by run": {run: sorted(map(_tree, opened.traces(run=run))) for run in runs},
        }


def _spans(spans: Iterable[Any]) -> list[Any]:
    return sorted(spans, key=lambda span: (span.trace_id, span.span_id))


def _tree(node: Any) -> tuple[Any, ...]:
    """A small tree; children that began together stand in no order."""
    span = node.span
    head = (span.trace_id, span.span_id, span.start_ns, span.name, node.self_ns)
    return (*head, tuple(sorted(map(_tree, node.children))))
