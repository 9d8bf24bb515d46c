"""What it costs to store spans that are received: python -m benchmarks.collect.store

Spans with five attributes, in traces of ten, as they come: written at once (sink/visible.py), then
marked as their segments are assembled (sink/store.py). Beside it the floor: the same rows, made
before, by a plain `executemany` into the same tables and indexes, in transactions of the same size.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from afterglow.model.segment import BufferedSpan, Fence, SegmentPart
from afterglow.sink.project_files import ProjectFiles
from afterglow.sink.store import StoreSink
from afterglow.sink.visible import Visible
from afterglow.store.schema import initialise

TRACE_SPANS = 10
PAGE_SPANS = 4_096
PAGE_TRACES = 1_000
SERVICES = 4
START_NS = 1_700_000_000_000_000_000
CPU_US, SPANS_A_SECOND = 40.0, 25_000.0


def spans_of_traces(traces: int, seed: int) -> list[list[BufferedSpan]]:
    """Traces with random ids, as OpenTelemetry has them; children end before their parents."""
    chance = random.Random(seed)
    resources = []
    for number in range(SERVICES):
        message = ResourceSpans()
        for key, value in (
            ("service.name", f"service-{number}"), ("host.name", "node-1"),
            ("telemetry.sdk.language", "python"), ("telemetry.sdk.name", "opentelemetry"),
            ("process.pid", str(100 + number)),
        ):  # fmt: skip
            message.resource.attributes.add(key=key).value.string_value = value
        message.scope_spans.add().scope.name = "opentelemetry.instrumentation.flask"
        resources.append(message)
    return [_trace(chance, number, resources) for number in range(traces)]


def _trace(
    chance: random.Random, number: int, resources: Sequence[ResourceSpans]
) -> list[BufferedSpan]:
    trace, ids = chance.randbytes(16), [chance.randbytes(8) for _ in range(TRACE_SPANS)]
    start = START_NS + number * 1_000_000
    spans = []
    for at in reversed(range(TRACE_SPANS)):
        message = ResourceSpans()
        message.CopyFrom(resources[(number + (at > 4)) % SERVICES])
        parent = ids[(at - 1) // 2] if at else None
        span = message.scope_spans[0].spans.add(
            trace_id=trace, span_id=ids[at], parent_span_id=parent or b"", name=f"GET /{at}/items",
            kind=2 if not at else 1, flags=0x100, start_time_unix_nano=start + at * 1_000,
            end_time_unix_nano=start + 500_000 - at * 1_000,
        )  # fmt: skip
        attributes = span.attributes
        attributes.add(key="http.request.method").value.string_value = "GET"
        attributes.add(key="http.route").value.string_value = "/items/{id}"
        attributes.add(key="url.path").value.string_value = f"/items/{number}"
        attributes.add(key="http.response.status_code").value.int_value = 200
        attributes.add(key="app.cached").value.bool_value = bool(at % 2)
        payload = message.SerializeToString()
        spans.append(BufferedSpan("default", trace, ids[at], parent, False, payload))
    return spans


def segment(spans: Sequence[BufferedSpan], number: int) -> SegmentPart:
    return SegmentPart(
        message_id=f"{number:032x}", project="default", trace_id=spans[0].trace_id,
        root_span_id=spans[-1].span_id, part=0, is_last=True, addendum=False,
        span_ids=tuple(span.span_id for span in spans),
        payloads=tuple(span.payload for span in spans), fence=Fence("bench", 1, 1),
    )  # fmt: skip


def portions(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    left = iter(items)
    while some := list(islice(left, most)):
        yield some


class Timed:
    """CPU and wall time of what is done inside, summed."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0

    def do(self, what: Callable[[], object]) -> None:
        cpu, wall = process_time(), perf_counter()
        what()
        self.cpu_s += process_time() - cpu
        self.wall_s += perf_counter() - wall


def ours(path: Path, traces: list[list[BufferedSpan]]) -> tuple[Timed, Timed]:
    """Times of the visible writes and of the marks."""
    visible_s, marks_s = Timed(), Timed()
    files = ProjectFiles(path)
    visible, sink = Visible(files, most_waiting=PAGE_SPANS * 2), StoreSink(files)
    for page in portions(enumerate(traces), PAGE_TRACES):
        spans = [span for _, trace in page for span in trace]
        for some in portions(spans, PAGE_SPANS):
            visible.accept(some)
            visible_s.do(visible.step)
        parts = [segment(trace, number) for number, trace in page]
        marks_s.do(lambda parts=parts: sink.write(parts))  # type: ignore[misc]
    assert not visible.let_go, "spans were let go"
    files.close()
    return visible_s, marks_s


TABLES = ("spans", "segments")


def floor(source: Path, path: Path) -> Timed:
    """The rows of `source`, by nothing but SQLite."""
    time = Timed()
    read = sqlite3.connect(source)
    connection = initialise(path)
    for table, page in zip(TABLES, (PAGE_SPANS, PAGE_TRACES), strict=True):
        order = "ORDER BY id" if table == "spans" else "ORDER BY message_id"
        rows = read.execute(f"SELECT * FROM {table} {order}")
        marks = ", ".join("?" * len(rows.description))
        insert = f"INSERT INTO {table} VALUES ({marks})"

        def write(insert: str, some: Sequence[tuple[object, ...]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, some)
            connection.execute("COMMIT")

        for some in portions(_plain(rows), page):
            time.do(lambda some=some, insert=insert: write(insert, some))  # type: ignore[misc]
    connection.close()
    read.close()
    return time


def _plain(rows: sqlite3.Cursor) -> Iterator[tuple[object, ...]]:
    while some := rows.fetchmany(10_000):
        yield from some


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--held", type=int, default=0, help="spans that are in the file before")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{options.spans:,} spans into a file that holds {options.held:,}; us CPU a span")
    best = (float("inf"), float("inf"), 0.0)
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            path, plain = Path(folder, "ours.db"), Path(folder, "floor.db")
            if options.held:
                ours(path, spans_of_traces(options.held // TRACE_SPANS, -1))
            traces = spans_of_traces(options.spans // TRACE_SPANS, number)
            visible, marks = ours(path, traces)
            cpu_us = (visible.cpu_s + marks.cpu_s) / options.spans * 1e6
            rate = options.spans / (visible.wall_s + marks.wall_s)
            below = "-"
            if not options.held:
                floor_us = floor(path, plain).cpu_s / options.spans * 1e6
                below = f"{floor_us:.1f}"
            print(
                f"  visible {visible.cpu_s / options.spans * 1e6:.1f}"
                f"  mark {marks.cpu_s / options.spans * 1e6:.1f}  both {cpu_us:.1f}"
                f"  floor {below}  {rate:,.0f} spans/s"
                f"  file {path.stat().st_size / 1e6:.0f} MB"
            )
            best = min(best, (cpu_us, 1 / rate, rate))
    ok = best[0] <= CPU_US and best[2] >= SPANS_A_SECOND
    print(
        f"{'ok' if ok else 'MISSED'}: {best[0]:.1f} us (at most {CPU_US:g}),"
        f" {best[2]:,.0f} spans/s (at least {SPANS_A_SECOND:,.0f})"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
