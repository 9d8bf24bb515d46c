"""What is measured of each service: through-put, CPU and memory, latency."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.collect.load import Shape, bodies, send
from benchmarks.collect.services import Cost, Service, afterglow, collector, cost
from scripts.otel_collector import NotHere
from scripts.redis_cluster import RedisCluster

ROOT = Path(__file__).resolve().parent.parent.parent
_SETTLE_S = 300.0


@dataclass
class Result:
    """One service under one load. Spans a second by the clock; CPU of the service and all that it
    started, of its Redis Cluster apart; memory at its highest while spans came and went."""

    name: str
    spans: int
    acknowledged_per_s: float
    visible_per_s: float | None
    out_per_s: float
    cpu_us: float
    redis_cpu_us: float | None
    peak_mib: float
    #: (1/2, 99/100, worst) of seconds from the acknowledgement of a request to ...
    visible_s: tuple[float, float, float] | None = None
    assembled_s: tuple[float, float, float] | None = None
    notes: list[str] = field(default_factory=list)


def throughput(
    name: str,
    services: Sequence[Service],
    shape: Shape,
    out: Callable[[], int],
    visible: Callable[[], int] | None,
    redis_pids: Sequence[int] = (),
) -> Result:
    """All spans as fast as they are acknowledged; the clock stops when the last one is out."""
    pids = [service.process.pid for service in services]
    before, redis_before = cost(pids), cost(redis_pids)
    with _load([service.url for service in services], shape) as sender:
        began = time.perf_counter()
        assert sender.stdin is not None
        sender.stdin.write(b"go\n")
        sender.stdin.flush()
        peak = before.mib
        seen_s: float | None = None
        sent_s = 0.0
        while True:
            now = time.perf_counter() - began
            if not sent_s and sender.poll() is not None:
                sent_s = now
                if sender.returncode:
                    raise SystemExit(f"{name}: the load was not acknowledged")
            peak = max(peak, cost(pids).mib)
            if visible is not None and seen_s is None and visible() >= shape.spans:
                seen_s = now
            if (count := out()) >= shape.spans:
                out_s = time.perf_counter() - began
                break
            if sent_s and now - sent_s > _SETTLE_S:
                raise SystemExit(f"{name}: {shape.spans - count} spans never came out")
            time.sleep(0.1)
        sender.wait()
    after, redis_after = cost(pids), cost(redis_pids)
    notes = [] if count == shape.spans else [f"{count - shape.spans} spans more than were sent"]
    return Result(
        name,
        shape.spans,
        shape.spans / (sent_s or out_s),
        shape.spans / seen_s if seen_s else None,
        shape.spans / out_s,
        1e6 * (after.cpu_s - before.cpu_s) / shape.spans,
        1e6 * (redis_after.cpu_s - redis_before.cpu_s) / shape.spans if redis_pids else None,
        peak,
        notes=notes,
    )


@contextmanager
def _load(urls: Sequence[str], shape: Shape) -> Iterator[subprocess.Popen[bytes]]:
    """The senders, as a process that has its requests ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.collect.load", ",".join(urls), "--wait",
         "--spans", str(shape.spans), "--trace-spans", str(shape.trace_spans),
         "--request-spans", str(shape.request_spans), "--seed", str(shape.seed)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def latency(service: Service, traces: int) -> tuple[list[float], list[float]]:
    """Seconds from the acknowledgement of a whole trace until it is visible, and assembled."""
    visible: list[float] = []
    assembled: list[float] = []
    for number in range(traces):
        shape = Shape(20, seed=10_000 + number)
        before = service.visible(), service.assembled()
        send([service.url], list(bodies(shape, started_ns=time.time_ns())), senders=1)
        acknowledged = time.perf_counter()
        for counted, start, into in (
            (service.visible, before[0], visible), (service.assembled, before[1], assembled),
        ):  # fmt: skip
            while counted() < start + shape.spans:
                if time.perf_counter() - acknowledged > 60:
                    raise SystemExit("a trace did not come out within a minute")
                time.sleep(0.005)
            into.append(time.perf_counter() - acknowledged)
    return visible, assembled


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1]


def embedded(shape: Shape, traces: int) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder,
        afterglow(Path(folder)) as service,
    ):
        name = "afterglow, one process and a file"
        result = throughput(name, [service], shape, service.assembled, service.visible)
        visible, assembled = latency(service, traces)
    result.visible_s, result.assembled_s = spread(visible), spread(assembled)
    return result


def clustered(shape: Shape, collectors: int, flushers: int) -> Result:
    """N collectors on one host around a Redis Cluster, each with a file of its own."""
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder, ExitStack() as stack:
        cluster = stack.enter_context(RedisCluster())
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)
        services = [
            stack.enter_context(
                afterglow(Path(folder) / str(number), "--buffer", url, "--flushers", str(flushers))
            )
            for number in range(collectors)
        ]
        return throughput(
            f"afterglow, {collectors} around a Redis Cluster, {flushers} flushers each",
            services,
            shape,
            lambda: sum(service.assembled() for service in services),
            None,
            [node.pid for node in cluster.nodes],
        )


def peers(shape: Shape) -> Iterator[Result]:
    for processors in ("none", "groupbytrace", "tail_sampling"):
        behind = "" if processors == "none" else f", {processors} (2 s)"
        name = f"OpenTelemetry Collector{behind}, file"
        with (
            tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder,
            collector(Path(folder), processors) as service,
        ):
            yield throughput(name, [service], shape, service.in_file, None)


def measure(shape: Shape, traces: int, collectors: Sequence[int]) -> tuple[list[Result], list[str]]:
    """All of them, one after the other; and what could not be had."""
    missing: list[str] = []
    results = [embedded(shape, traces)]
    results += [clustered(shape, number, 2 if number > 1 else 1) for number in collectors]
    try:
        results += peers(shape)
    except NotHere as error:
        missing.append(str(error))
    return results, missing


__all__ = ["Cost", "Result", "measure"]
