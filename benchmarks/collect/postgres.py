"""What it costs to store segments in PostgreSQL: python -m benchmarks.collect.postgres

Spans with five attributes, in traces of ten, in pages of a thousand traces, by sink/postgres.py
into a server that is started for it (without fsync). The CPU is that of this process, as a flusher
has it; the server's is not in it, but shares the machine, and shows in the spans a second.
"""

from __future__ import annotations

import argparse
import sys

import psycopg

from afterglow.sink.postgres import PostgresSink
from benchmarks.collect.store import (
    PAGE_TRACES,
    TRACE_SPANS,
    Timed,
    portions,
    segment,
    spans_of_traces,
)
from scripts.postgres import Postgres

CPU_SPANS_A_SECOND = 20_000.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    options = parser.parse_args()
    traces = spans_of_traces(options.spans // TRACE_SPANS, 1)
    spans = len(traces) * TRACE_SPANS
    new, again = Timed(), Timed()
    with Postgres() as server:
        url = server.new_database()
        sink = PostgresSink(url)
        for time in (new, again):
            for page in portions(enumerate(traces), PAGE_TRACES):
                parts = [segment(trace, number) for number, trace in page]
                time.do(lambda parts=parts: sink.write(parts))  # type: ignore[misc]
        sink.close()
        with psycopg.connect(url) as session:
            row = session.execute(
                "SELECT count(*), pg_total_relation_size('afterglow_spans.span')"
                " + pg_total_relation_size('afterglow_spans.trace')"
                " + pg_total_relation_size('afterglow_spans.segment') FROM afterglow_spans.span"
            ).fetchone()
    assert row is not None and row[0] == spans, "spans are missing, or there twice"
    for name, time in (("new", new), ("delivered again", again)):
        print(
            f"  {name}: {time.cpu_s / spans * 1e6:.1f} us CPU a span,"
            f" {spans / time.cpu_s:,.0f} spans/s of CPU, {spans / time.wall_s:,.0f} of the clock"
        )
    print(f"  {row[1] / spans:.0f} bytes a span in the database")
    ok = spans / new.cpu_s >= CPU_SPANS_A_SECOND
    print(f"{'ok' if ok else 'MISSED'}: at least {CPU_SPANS_A_SECOND:,.0f} spans/s of CPU")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
