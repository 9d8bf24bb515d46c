"""Segments into the SQLite store: their spans, as far as they are not there yet, and a mark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from afterglow.clock import Clock, SystemClock
from afterglow.counts import Counts
from afterglow.errors import SinkUnavailableError
from afterglow.model.segment import SegmentPart
from afterglow.sink.project_files import ProjectFiles, received_rows
from afterglow.store.received import ReceivedFile, SegmentRow, SpanKey, received_process
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["StoreSink", "StoreSinks"]


class StoreSink:
    """A ports.SegmentSink that keeps spans and marks in the file of each project.

    Every span is there once, by project, trace id and span id, however often and by how many
    processes it is delivered; those that are there already are not decoded again. When `write`
    returns, the page survives the death of the machine. What is wrong with a file raises
    SinkUnavailableError: the spans wait until somebody puts it right. Payloads that cannot be
    decoded are counted in `segments.unreadable` and as `sink_dropped_spans`, and reported.
    """

    def __init__(
        self,
        database: Path | ProjectFiles,
        *,
        clock: Clock | None = None,
        counts: Counts | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._owns_files = not isinstance(database, ProjectFiles)
        self._files = database if isinstance(database, ProjectFiles) else ProjectFiles(database)
        self._clock = clock or SystemClock()
        self._counts = counts or Counts()
        self._complaints = Complaints(report, self._clock)

    def write(self, parts: Sequence[SegmentPart]) -> None:
        projects: defaultdict[str, list[SegmentPart]] = defaultdict(list)
        for part in parts:
            projects[part.project].append(part)
        try:
            for project, own in projects.items():
                with self._files.of(project) as file:
                    self._write(file, project, own)
        except SinkUnavailableError:
            self._counts.add("sink_retries", sink="store")
            raise

    def close(self) -> None:
        if self._owns_files:
            self._files.close()

    def _write(self, file: ReceivedFile, project: str, parts: list[SegmentPart]) -> None:
        keys: list[list[SpanKey]] = [_keys(part) for part in parts]
        known = file.known(key for own in keys for key in own)
        missing = [
            (at, payload)
            for at, (part, own) in enumerate(zip(parts, keys, strict=True))
            for key, payload in zip(own, part.payloads, strict=True)
            if key not in known
        ]
        received, unreadable = received_rows(
            project, [payload for _, payload in missing], received_process
        )
        lost = [0] * len(parts)
        for row in unreadable:
            lost[missing[row][0]] += 1
        now_ns = self._clock.wall_ns()
        file.write(
            received,
            [_segment(part, lost[at], now_ns) for at, part in enumerate(parts)],
            durable=True,
        )
        self._count(file, sum(map(len, keys)), len(unreadable))

    def _count(self, file: ReceivedFile, spans: int, unreadable: int) -> None:
        self._counts.add("sink_spans", spans - unreadable, sink="store")
        if unreadable:
            self._counts.add("sink_dropped_spans", unreadable, sink="store", reason="sink_refused")
            self._complaints.say(
                "unreadable",
                f"{unreadable} spans for {file.path} cannot be decoded and are not stored;"
                " count them with: afterglow sql 'SELECT sum(unreadable) FROM segments'",
            )


def _keys(part: SegmentPart) -> list[SpanKey]:
    trace = part.trace_id.hex()
    return [(trace, span.hex()) for span in part.span_ids]


def _segment(part: SegmentPart, unreadable: int, now_ns: int) -> SegmentRow:
    return SegmentRow(
        part.trace_id.hex(),
        part.root_span_id.hex(),
        part.message_id,
        part.part,
        part.is_last,
        part.addendum,
        len(part.span_ids),
        unreadable,
        now_ns,
    )


@dataclass(frozen=True)
class StoreSinks:
    """Makes the sink of each flusher process; goes there by pickle."""

    path: str

    def __call__(self, number: int) -> StoreSink:
        return StoreSink(Path(self.path))
