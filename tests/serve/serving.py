"""`afterglow serve` as a real process, and stock OpenTelemetry programs that send to it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

#: Far more than anything here takes; a busy machine gets all of it.
PATIENCE_S = 60.0


def until(what: Callable[[], object], why: str, within_s: float = PATIENCE_S) -> None:
    """Wait for a condition; the times of a test are its bound, never its result."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """Of a program that nobody has set anything for."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AFTERGLOW_", "OTEL_"))
    }
    return {**kept, **more}


class Serving:
    """One service; `stop` and the end of the `with` block end it."""

    def __init__(
        self,
        database: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        wrap: tuple[str, ...] = (),
    ) -> None:
        self.database = database
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [
                *wrap, sys.executable, "-m", "afterglow", "serve", "--db", str(database),
                "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *options,
            ],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment(**(env or {})),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    # --- what it says

    def said(self, pattern: str, within_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait until a line says so."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [m for m in (re.search(pattern, line) for line in self.lines) if m]
            return bool(found) or not self._reader.is_alive()

        with self._changed:
            assert self._changed.wait_for(look, within_s) and found, (pattern, self.lines)
        return found[0]

    @property
    def http(self) -> str:
        return self.said(r"OTLP/HTTP at (http://[0-9.:]+)/v1/traces")[1]

    @property
    def grpc(self) -> str:
        return self.said(r"OTLP/gRPC at ([0-9.:]+)")[1]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.http}{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, line: str) -> float | None:
        """The value of a metric with its labels as they are written; None where it is not said."""
        for found in self.get("/metrics")[1].splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return None

    def post(self, body: bytes, *, project: str | None = None, token: str | None = None) -> int:
        """Send a body of protobuf; the status."""
        headers = {"content-type": "application/x-protobuf"}
        if project is not None:
            headers["x-afterglow-project"] = project
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self.http}/v1/traces", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    # --- its end

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(sign)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


#: A program with the stock SDK: nothing in it is ours.
PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.{exporter}.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")
for i in range(int(sys.argv[1])):
    with tracer.start_as_current_span("checkout"):
        with tracer.start_as_current_span("cart"):
            pass
        with tracer.start_as_current_span("pay") as pay:
            pay.set_attribute("http.request.header.authorization", "secret!")
provider.shutdown()
"""


def run_program(endpoint: str, *, traces: int = 3, exporter: str = "http", **env: str) -> None:
    """Run it against a service, with only its endpoint set."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(exporter=exporter), str(traces)],
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="shop", **env),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def afterglow(*words: str) -> tuple[int, str, str]:
    """A command line of ours in a process of its own: status, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "afterglow", *words],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the file as they are now; none where there is no file or table yet."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def one(database: Path, sql: str) -> int:
    """The number that a query gives; 0 where there is nothing."""
    rows = query(database, sql)
    return int(rows[0][0] or 0) if rows else 0


def spans_in(database: Path) -> int:
    return one(database, "SELECT count(*) FROM spans")


def assembled_in(database: Path) -> int:
    return one(database, "SELECT sum(spans) FROM segments")
