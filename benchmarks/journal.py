"""Bytes on disk, and how fast journals are folded into the database and read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time_ns

import msgspec

from afterglow.config import JournalConfig
from afterglow.model.flat import WIDTH
from afterglow.store.columns import encode_batch, zstd
from afterglow.store.journal import JournalSink
from afterglow.store.live import journal_statistics
from benchmarks.harness import Sample
from benchmarks.rows import BATCH, batches
from benchmarks.scale import Scale
from benchmarks.table import Row, Value, at_least, at_most


def measure(scale: Scale) -> list[Row]:
    rows = [*sizes(scale), *encodings(scale)]
    folding: list[float] = []
    straight: list[float] = []
    statistics: list[float] = []
    for _ in range(scale.rounds):
        with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as directory:
            database = Path(directory) / "folding.db"
            write(database, scale.disk_spans, attributes=True)
            straight.append(straight_statistics(database, scale.disk_spans))
            folding.append(fold(database, scale.disk_spans))
            statistics.append(read_statistics(database, scale.disk_spans))
    rate: dict[str, Value] = {"afterglow": Sample.of(folding)}
    check = at_least("folding with its indexes (best)", max(folding), 100_000, " spans/s")
    rows.append(Row("folding into the database, 3 attributes", "spans/s", rate, [check]))
    check = at_least("statistics straight from the journals", max(straight), 2_500_000, " spans/s")
    of_journals: dict[str, Value] = {"afterglow": Sample.of(straight)}
    rows.append(Row("statistics straight from the journals", "spans/s", of_journals, [check]))
    rows.append(
        Row("statistics from the database", "spans/s", {"afterglow": Sample.of(statistics)})
    )
    return rows


def sizes(scale: Scale) -> list[Row]:
    rows = []
    for attributes in (False, True):
        with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as directory:
            database = Path(directory) / "size.db"
            n = write(database, scale.disk_spans, attributes=attributes)
            on_disk = sum(file.stat().st_size for file in Path(f"{database}.d").iterdir())
        shape = "3 attributes" if attributes else "no attributes"
        checks = [at_most("journal, 3 attributes", on_disk / n, 20, " bytes a span")]
        rows.append(
            Row(f"journal, {shape}", "bytes a span", {"afterglow": on_disk / n},
                checks if attributes else [])
        )  # fmt: skip
    return rows


def encodings(scale: Scale) -> list[Row]:
    """A batch as bytes: in our columns, and as rows of msgpack compressed alike."""
    batch = next(batches(BATCH * 2, attributes=True))
    msgpack = msgspec.msgpack.Encoder().encode
    ways: dict[str, Callable[[], bytes]] = {
        "columns": lambda: encode_batch(batch),
        "rows": lambda: zstd.compress(
            msgpack(list(zip(*[iter(batch.flat)] * WIDTH, strict=True))), 1
        ),
    }
    found = []
    for name, encode in ways.items():
        times = []
        for _ in range(scale.repetitions):
            before = thread_time_ns()
            body = encode()
            times.append((thread_time_ns() - before) / len(batch) / 1e3)
        found += [
            Row(f"encoding a batch as {name}", "us a span", {"afterglow": Sample.of(times)}),
            Row(f"a batch as {name}", "bytes a span", {"afterglow": len(body) / len(batch)}),
        ]
    return found


def write(database: Path, spans: int, *, attributes: bool) -> int:
    """A finished process's journals; how many spans are in them."""
    sink = JournalSink(database, JournalConfig(), run_id="b" * 32, pid=1)
    written = 0
    for batch in batches(spans, attributes=attributes):
        sink.write(batch)
        written += len(batch)
    sink.close()
    return written


def fold(database: Path, spans: int) -> float:
    """Spans a second into the named file, its indexes included."""
    import afterglow

    before = perf_counter()
    afterglow.open(database).close()
    return spans / (perf_counter() - before)


def straight_statistics(database: Path, spans: int) -> float:
    before = perf_counter()
    journal_statistics(database)
    return spans / (perf_counter() - before)


def read_statistics(database: Path, spans: int) -> float:
    import afterglow

    with afterglow.open(database) as opened:
        before = perf_counter()
        list(opened.statistics())
        return spans / (perf_counter() - before)
