"""The services that are compared, as processes: what they cost is read from /proc."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.otel_collector import built
from scripts.servers import free_ports

_START_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Cost(NamedTuple):
    """Of a process and all that it started: CPU seconds, resident MiB."""

    cpu_s: float
    mib: float


def cost(pids: Sequence[int]) -> Cost:
    """What these processes and their descendants have cost until now."""
    parents: dict[int, int] = {}
    used: dict[int, tuple[float, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        # Its own and that of children that it has waited for.
        cpu = sum(int(field) for field in fields[11:15]) / _TICKS
        used[pid] = cpu, int(fields[21]) * _PAGE / 2**20
    ours = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    found = [used[pid] for pid in ours if pid in used]
    return Cost(sum(cpu for cpu, _ in found), sum(mib for _, mib in found))


class Service(NamedTuple):
    """One that runs: where to send, and how many spans it has let out."""

    url: str
    process: subprocess.Popen[bytes]
    out: Path

    def visible(self) -> int:
        """Spans in its store (for ours)."""
        return _count(self.out, "SELECT count(*) FROM spans")

    def assembled(self) -> int:
        """Spans of segments that came out of its buffer (for ours)."""
        return _count(self.out, "SELECT coalesce(sum(spans), 0) FROM segments")

    def in_file(self) -> int:
        """Spans in its file (for the OpenTelemetry Collector)."""
        with self.out.open("rb") as file:
            return sum(chunk.count(b'"spanId"') for chunk in file)


def _count(path: Path, query: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it is not there yet


@contextmanager
def afterglow(folder: Path, *options: str, name: str = "afterglow") -> Iterator[Service]:
    """`afterglow serve` with a file in this folder, and further options; segments are due after
    2 s, with a Redis too."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "afterglow", "serve", "--db", str(folder / "afterglow.db"),
        "--http", f"127.0.0.1:{port}", "--grpc", "off", *options,
    ]  # fmt: skip
    env = {**os.environ, "AFTERGLOW_BUFFER_ROOT_TIMEOUT_S": "2", "AFTERGLOW_BUFFER_TIMEOUT_S": "10"}
    with _running(command, folder / f"{name}.log", env) as process:
        _until_ready(process, f"http://127.0.0.1:{port}/readyz", folder / f"{name}.log")
        yield Service(f"http://127.0.0.1:{port}", process, folder / "afterglow.db")


@contextmanager
def collector(folder: Path, processors: str) -> Iterator[Service]:
    """The OpenTelemetry Collector, with a file exporter behind these processors: "none",
    "groupbytrace" (2 s) or "tail_sampling" (decides after 2 s, keeps all)."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    out = folder / "spans.json"
    chosen = "" if processors == "none" else f"processors: [{processors}]"
    config = folder / "config.yaml"
    config.write_text(f"""\
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
processors:
  groupbytrace: {{wait_duration: 2s, num_traces: 1000000}}
  tail_sampling:
    decision_wait: 2s
    num_traces: 1000000
    policies: [{{name: all, type: always_sample}}]
exporters:
  file: {{path: "{out}"}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{traces: {{receivers: [otlp], {chosen or "processors: []"}, exporters: [file]}}}}
""")
    with _running([str(built().collector), "--config", str(config)], folder / "log") as process:
        _until_ready(process, f"http://127.0.0.1:{port}/", folder / "log")
        yield Service(f"http://127.0.0.1:{port}", process, out)


@contextmanager
def _running(
    command: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return  # it listens
        except OSError:
            pass
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise SystemExit(f"{process.args!r} did not get ready: {' | '.join(last)}")
