"""A worker or a flusher in a process of its own: does what it is told, line by line.

What is timed is `add` alone, batch by batch, and a flusher's steps (take, write to a sink that
counts, acknowledge); spans are made beforehand, or between two calls where they are too many.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter_ns, process_time_ns, sleep
from typing import Any

from afterglow.buffering import open_buffer
from afterglow.clock import SystemClock
from afterglow.config import BufferConfig
from afterglow.flush.flusher import Flusher
from afterglow.model.segment import BufferedSpan, SegmentPart
from benchmarks.buffer.floor import Floor, blobs_of
from benchmarks.buffer.workloads import PROJECT, Workload, payload, workloads

Answer = dict[str, Any]
Batch = Sequence[BufferedSpan]

#: What was added so long ago is due: nobody waits for a timeout.
_AGO_NS = 3_600 * 10**9
#: Part of a stream that several workers share: its batches go to them in turns.
_SHARED_BATCH = 1_000


class CountingSink:
    """Takes everything, keeps nothing."""

    def __init__(self) -> None:
        self.parts = self.spans = self.payload_bytes = 0

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self.parts += len(parts)
        for part in parts:
            self.spans += len(part.span_ids)
            self.payload_bytes += sum(map(len, part.payloads))

    def close(self) -> None: ...


class Answers:
    """Counts the answers that redis-py reads: as many as commands were sent."""

    def __init__(self) -> None:
        self.n = 0
        from redis.connection import AbstractConnection

        read = AbstractConnection.read_response

        def counting(*words: Any, **named: Any) -> Any:
            self.n += 1
            return read(*words, **named)

        AbstractConnection.read_response = counting  # type: ignore[method-assign]


class Stopwatch:
    """CPU and wall time of this process while it is in a `with`, summed up."""

    def __init__(self) -> None:
        self.cpu_ns = self.wall_ns = 0

    def __enter__(self) -> None:
        self._wall_ns, self._cpu_ns = perf_counter_ns(), process_time_ns()

    def __exit__(self, *_: object) -> None:
        self.cpu_ns += process_time_ns() - self._cpu_ns
        self.wall_ns += perf_counter_ns() - self._wall_ns


class Subject:
    """A process that adds and flushes; one buffer at a time."""

    buffer: Any = None

    def __init__(self) -> None:
        self.answers = Answers()
        self.spans: Iterable[BufferedSpan] = ()
        self.floor: Floor | None = None

    def open(self, url: str, **settings: Any) -> Answer:
        """From now on this buffer; the one before is closed."""
        if self.buffer is not None:
            self.buffer.close()
        self.buffer = open_buffer(BufferConfig(url=url, **settings))
        return {}

    def warm(self, n_spans: int) -> Answer:
        """What a process that runs for days has behind it: connections, scripts, a dictionary."""
        shuffled = workloads(n_spans, seed=99)[1]
        for batch in shuffled.batches(1_000):
            self._add(batch, _now_ns() - _AGO_NS)
        return self.flush()

    def make(
        self, workload: int, n_spans: int, share: Sequence[int] = (0, 1), ahead: bool = True
    ) -> Answer:
        """The spans to add: all of a workload, or the share `[i, n]` of the ith of n workers;
        ahead of time, or each batch just before it is added."""
        chosen = workloads(n_spans)[workload]
        number, workers = share
        if workers > 1:
            self.spans = list(_share_of(chosen, number, workers))
        elif ahead:
            self.spans = list(chosen.spans())
        else:
            self.spans = _Again(chosen)
        gc.collect()
        gc.freeze()
        return {}

    def add(self, batch: int, project: str = PROJECT, ago: bool = True) -> Answer:
        """Add all spans; `ago`: so long ago that they are due now."""
        watch = Stopwatch()
        spans = refusals = commands = 0
        for given in self._batches(batch, project):
            now_ns = _now_ns() - (_AGO_NS if ago else 0)
            before = self.answers.n
            with watch:
                refusals += self._add(given, now_ns)
            commands += self.answers.n - before
            spans += len(given)
        return {"spans": spans, "refusals": refusals, "commands": commands, **_times(watch)}

    def flush(self, share: Sequence[int] = (0, 1)) -> Answer:
        """Flush all that is due of the shards `i mod n`."""
        sink = CountingSink()
        number, flushers = share
        said: list[str] = []
        flusher = Flusher(
            self.buffer,
            sink,
            owner=f"flusher {number} {os.getpid()}",
            shards=None if flushers == 1 else range(number, BufferConfig().shards, flushers),
            report=said.append,
        )
        watch = Stopwatch()
        before = self.answers.n
        with watch:
            while True:
                retries = flusher.counts.retries
                if (wait_s := flusher.step()) and flusher.counts.retries == retries:
                    break
                sleep(wait_s)
        return {
            "spans": sink.spans,
            "parts": sink.parts,
            "payload_bytes": sink.payload_bytes,
            "said": said,
            "commands": self.answers.n - before,
            "peak_bytes": _peak_bytes(),
            **_times(watch),
        }

    def books(self) -> Answer:
        books = self.buffer.ledger()
        return {
            "ingested": books.ingested,
            "delivered": books.delivered,
            "held": books.held,
            "balanced": books.balanced,
        }

    # --- the floor --------------------------------------------------------------------------

    def floor_add(self, url: str, batch: int) -> Answer:
        """Compress and SET ... EX the blobs that the buffer would make, nothing else."""
        self.floor = self.floor or Floor(url)
        watch = Stopwatch()
        spans = 0
        for given in self._batches(batch, PROJECT):
            blobs = blobs_of(given)
            with watch:
                self.floor.put(blobs)
            spans += len(given)
        return {"spans": spans, "commands": len(self.floor.keys), **_times(watch)}

    def floor_flush(self) -> Answer:
        """GET, decompress and UNLINK all of them, nothing else."""
        assert self.floor is not None
        watch = Stopwatch()
        with watch:
            payload_bytes = self.floor.take()
        return {"payload_bytes": payload_bytes, **_times(watch)}

    # --- within -----------------------------------------------------------------------------

    def _batches(self, size: int, project: str) -> Iterator[Batch]:
        batch: list[BufferedSpan] = []
        for span in self.spans:
            batch.append(span if project == PROJECT else span._replace(project=project))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _add(self, batch: Batch, now_ns: int) -> int:
        """Until it is taken; how often it was refused."""
        refusals = 0
        while (result := self.buffer.add(batch, now_ns)).refused:
            refusals += 1
            if refusals > 600:
                raise RuntimeError(f"refused again and again: {result.reason}")
            sleep(0.1)
        assert result.accepted == len(batch), result
        return refusals

    def close(self) -> Answer:
        self.buffer.close()
        if self.floor is not None:
            self.floor.close()
        return {}


class _Again:
    """A workload that is made anew each time that it is walked through."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def __iter__(self) -> Iterator[BufferedSpan]:
        return self._workload.spans()


def _share_of(workload: Workload, number: int, workers: int) -> Iterator[BufferedSpan]:
    """Every nth batch of a stream: the spans of each trace reach all workers."""
    rng = random.Random(number)
    for at, (trace_id, span_id, parent) in enumerate(workload.edges()):
        if at // _SHARED_BATCH % workers == number:
            made = payload(rng, trace_id, span_id, parent)
            yield BufferedSpan(PROJECT, trace_id, span_id, parent, False, made)


def _now_ns() -> int:
    return SystemClock().wall_ns()


def _times(watch: Stopwatch) -> Answer:
    return {"cpu_ns": watch.cpu_ns, "wall_ns": watch.wall_ns}


def _peak_bytes() -> int:
    """The most memory that this process ever had; unlike getrusage, not its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subject = Subject()
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(subject, order.pop("do"))(**order)), file=answers, flush=True)


if __name__ == "__main__":
    main()
