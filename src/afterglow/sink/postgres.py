"""Segments into PostgreSQL, from any number of flushers (docs/postgres-store.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from afterglow.clock import Clock, SystemClock
from afterglow.counts import Counts
from afterglow.errors import MissingExtraError, SinkError, SinkUnavailableError, StoreError
from afterglow.model.segment import SegmentPart
from afterglow.write.complaints import Complaints, to_stderr

if TYPE_CHECKING:
    from afterglow.store.postgres.lines import Page

__all__ = ["PostgresSink", "PostgresSinks"]


class PostgresSink:
    """A ports.SegmentSink that keeps spans in the database at `url` (postgresql://...).

    Every span is there once, by project, trace id and span id, however often and by how many
    processes it is delivered; a page is one transaction. When `write` returns, it survives
    what PostgreSQL survives. It connects at the first page; while the server is away, restarts or
    has no connection left, SinkUnavailableError says so. Values that PostgreSQL cannot hold are
    changed so that they fit. Payloads that cannot be decoded are counted in the books there
    (`unreadable`) and as `sink_dropped_spans`, and reported. Raises SettingError for a URL that
    is none, MissingExtraError without psycopg or protobuf.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 5.0,
        clock: Clock | None = None,
        counts: Counts | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        try:
            from afterglow.store.postgres.write import PageWriter
        except ImportError:
            raise MissingExtraError("keeping spans in PostgreSQL", "postgres") from None
        clock = clock or SystemClock()
        self._writer = PageWriter(url, connect_timeout_s=connect_timeout_s, clock=clock)
        self._counts = counts or Counts()
        self._complaints = Complaints(report, clock)

    def write(self, parts: Sequence[SegmentPart]) -> None:
        projects: defaultdict[str, list[SegmentPart]] = defaultdict(list)
        for part in parts:
            projects[part.project].append(part)
        pages = [_page(project, projects[project]) for project in sorted(projects)]
        try:
            self._writer.write(pages)
        except StoreError as error:
            raise SinkUnavailableError(str(error)) from error
        except ValueError as error:
            raise SinkError(f"{self._writer.place}: {error}") from error
        unreadable = sum(page.unreadable for page in pages)
        spans = sum(len(part.span_ids) for part in parts)
        self._counts.add("sink_spans", spans - unreadable, sink="postgres")
        if unreadable:
            self._counts.add(
                "sink_dropped_spans", unreadable, sink="postgres", reason="sink_refused"
            )
            self._complaints.say(
                "unreadable", f"{unreadable} spans cannot be decoded and are not stored"
            )

    def close(self) -> None:
        self._writer.close()


def _page(project: str, parts: Sequence[SegmentPart]) -> Page:
    try:
        from afterglow.otlp.columns import read_columns
    except ImportError:
        raise MissingExtraError("reading OTLP", "otlp") from None
    from afterglow.store.postgres.jsonb import plain_json
    from afterglow.store.postgres.lines import Page, Segment
    from afterglow.store.received import received_process
    from afterglow.store.rows import Rows

    found, unreadable = read_columns(
        [payload for part in parts for payload in part.payloads], plain_json, keep_own=True
    )
    where = [at for at, part in enumerate(parts) for _ in part.payloads]
    lost = [0] * len(parts)
    for row in unreadable:
        lost[where[row]] += 1
    page = Page(project, [], unreadable=len(unreadable))
    for columns in found:
        none: list[int] = [0] * len(columns)
        rows = Rows(
            trace_id=columns.trace_id, span_id=columns.span_id,
            parent_span_id=columns.parent_span_id, name=columns.name, start_ns=columns.start_ns,
            end_ns=columns.end_ns, duration_ns=columns.duration_ns,
            attributes=columns.attributes, thread_id=none, thread_name=[], task_name=[],
            extras=columns.extras, events=columns.events, links=columns.links,
            errors=columns.errors, open_rows=0,
        )  # fmt: skip
        page.spans.append((received_process(project, columns.resource), rows))
    page.segments = [
        Segment(part.trace_id.hex(), part.message_id, part.root_span_id.hex(), part.part,
                part.is_last, part.addendum, len(part.span_ids), lost[at])
        for at, part in enumerate(parts)
    ]  # fmt: skip
    return page


@dataclass(frozen=True)
class PostgresSinks:
    """Makes the sink of each flusher process; goes there by pickle."""

    url: str = field(repr=False)
    connect_timeout_s: float = 5.0

    def __call__(self, number: int) -> PostgresSink:
        return PostgresSink(self.url, connect_timeout_s=self.connect_timeout_s)
