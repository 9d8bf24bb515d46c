"""A file of many spans: folding speed, and memory and seconds of the report's questions.

    python -m benchmarks.read_large [--spans 10000000] [--keep FILE]

Journals are made batch by batch and folded as they come, as if a service ran for long and
somebody looked now and then; so the disk never holds both forms whole. Each question is asked
in a process of its own, whose greatest resident size is what the kernel says.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import perf_counter

from afterglow.config import JournalConfig
from afterglow.ports import SpanBatch
from afterglow.store.journal import JournalSink
from benchmarks.rows import batches

_BATCHES_A_FOLD = 500  # about a million spans
_MEMORY_MIB = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="make the file here, or use the one that is")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder:
        database = given.keep or Path(folder) / "large.db"
        if not database.exists():
            build(database, given.spans)
        for question in ("statistics", "traces", "walk", "audit"):
            report(question, ask(question, database))


def build(database: Path, spans: int) -> None:
    """Fold batches of that many spans into the file; prints how fast."""
    source = batches(spans, attributes=True)
    seconds = rate_last = 0.0
    peak = spans_done = 0
    while True:
        written = journal(database, islice(source, _BATCHES_A_FOLD))
        if not written:
            break
        answer = ask("fold", database)
        seconds += answer["seconds"]
        rate_last = written / answer["seconds"]
        peak = max(peak, int(answer["peak_mib"]))
        spans_done += written
    size = database.stat().st_size
    print(
        f"folded {spans_done:,} spans, {spans_done / seconds:,.0f}/s (the last million "
        f"{rate_last:,.0f}/s), {peak} MiB, {size / spans_done:.0f} bytes a span"
    )


def journal(database: Path, some: Iterator[SpanBatch]) -> int:
    """Journals of the next batches; how many spans are in them."""
    sink = JournalSink(database, JournalConfig(), run_id="b" * 32, pid=1 << 23)
    with closing(sink):
        written = 0
        for batch in some:
            sink.write(batch)
            written += len(batch)
    return written


def ask(question: str, database: Path) -> dict[str, float]:
    """Seconds, greatest resident size and size of the answer, from a process of its own."""
    words = [sys.executable, "-c", _ASK, question, str(database)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def report(question: str, answer: dict[str, float]) -> None:
    peak = answer["peak_mib"]
    verdict = "" if peak < _MEMORY_MIB else f"  MORE THAN {_MEMORY_MIB} MiB"
    print(f"{question:<12}{answer['seconds']:>8.2f} s{peak:>8.0f} MiB{verdict}")


def answer(question: str, database: Path) -> None:
    """Ask one question in this process and print what it took."""
    import afterglow

    before = perf_counter()
    with afterglow.open(database) as opened:
        if question == "statistics":
            opened.statistics(run="latest")
        elif question == "traces":
            list(opened.traces(run="latest", limit=20))
        elif question == "walk":
            sum(1 for root in opened.traces(run="latest", limit=20) for _ in root.walk())
        elif question == "audit":
            assert opened.audit()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": perf_counter() - before, "peak_mib": peak_kib / 1024}))


_ASK = """
import sys
from pathlib import Path
from benchmarks.read_large import answer
answer(sys.argv[1], Path(sys.argv[2]))
"""

if __name__ == "__main__":
    main()
