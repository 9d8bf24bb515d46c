"""FastAPI, SQLAlchemy, httpx and threads, instrumented by contrib, in servers under load.

Each request's trace must be whole, over processes and threads; the books must balance; workers
that die of SIGTERM lose nothing and nobody hangs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import afterglow

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 40

SERVERS = {
    "gunicorn": ["gunicorn", "--preload", "-w", "2", "-k", "uvicorn_worker.UvicornWorker"],
    "uvicorn": ["uvicorn", "--workers", "2", "--timeout-worker-healthcheck", "60"],
}

#: What one request leaves; `http send` is the response's head and body.
QUERY = {"connect": 1, "SELECT": 1}
PRICE = Counter({"GET /price/{number}": 1, "GET /price/{number} http send": 2, **QUERY})
ORDER = PRICE + Counter({"GET /order/{number}": 1, "GET /order/{number} http send": 2, "GET": 1,
                         "count": 2, "connect": 2, "SELECT": 2})  # fmt: skip
ASYNC = PRICE + Counter({"GET /async/{number}": 1, "GET /async/{number} http send": 2, "GET": 1})


class Server:
    """A server on a free port; `stop` ends it as an operator does, and gives what it said."""

    def __init__(self, folder: Path, before: list[str], server: str) -> None:
        self.database = folder / "traces.db"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        where = (
            ["-b", f"127.0.0.1:{self.port}"] if server == "gunicorn" else ["--port", str(self.port)]
        )
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*before, *SERVERS[server], *where, "tests.otel.shop:app"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": str(ROOT),
                    "AFTERGLOW_DATABASE": str(self.database),
                    "SHOP_DATABASE": str(folder / "shop.db"),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ask(self, path: str) -> object:
        with httpx.Client(timeout=60) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}").json()

    def wait(self) -> None:
        """Until it answers, which takes seconds."""
        for _ in range(600):
            try:
                assert self.ask("/price/1") == 2
                return
            except httpx.TransportError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.1)
                    break  # it has ended
        pytest.fail(self.log.read_text())

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()
        return self.log.read_text()


def loaded(server: Server) -> None:
    """Forty requests of two kinds, eight at a time."""

    def order(number: int) -> None:
        assert server.ask(f"/order/{number}?port={server.port}") == [number * 2] * 3

    def asynchronous(number: int) -> None:
        assert server.ask(f"/async/{number}?port={server.port}") == number * 2

    with ThreadPoolExecutor(8) as pool:
        kinds = [order, asynchronous] * (REQUESTS // 2)
        list(pool.map(lambda kind, number: kind(number), kinds, range(REQUESTS)))


@pytest.mark.parametrize(
    ("before", "server"),
    [
        (["opentelemetry-instrument"], "gunicorn"),
        (["opentelemetry-instrument"], "uvicorn"),
        (["afterglow", "run", "--otel", "--quiet", "-m"], "gunicorn"),
    ],
)
def test_every_request_is_one_whole_trace(tmp_path: Path, before: list[str], server: str) -> None:
    command = [str(BIN / before[0]), *before[1:]]
    running = Server(tmp_path, command, server)
    try:
        running.wait()
        loaded(running)
        log = running.stop()
    finally:
        running.process.kill()
        running.process.wait()
    assert "detach" not in log and "Traceback" not in log, log
    audit = subprocess.run(
        [sys.executable, "-m", "afterglow", "audit", str(running.database)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert audit.returncode == 0, audit.stdout
    is_traced = before[0] == "afterglow"
    with afterglow.open(running.database) as database:
        traces: dict[int, list[afterglow.model.span.Span]] = {}  # type: ignore[name-defined]
        for span in database.spans():
            traces.setdefault(span.trace_id, []).append(span)
        books = database.ledger()
        assert len(database.runs()) == 1
    assert books["recorded"] == books["written"] == sum(map(len, traces.values()))
    found: Counter[str] = Counter()
    for spans in traces.values():
        ids = {span.span_id for span in spans}
        (root,) = [span for span in spans if span.parent_span_id not in ids]
        if is_traced and not root.name.startswith("GET"):
            continue  # a function that ran before there was a request
        assert root.parent_span_id == 0
        found[root.name] += 1
        names = Counter(
            "SELECT" if span.name.startswith("SELECT") else span.name
            for span in spans
            if "tests.otel.shop." not in span.name
        )
        kind = {"GET /order/{number}": ORDER, "GET /async/{number}": ASYNC}
        assert names == kind.get(root.name, PRICE)
        if is_traced and root.name == "GET /order/{number}":
            functions = Counter(s.name for s in spans if "tests.otel.shop." in s.name)
            assert functions == {
                "tests.otel.shop.order": 1,
                "tests.otel.shop.price": 1,
                "tests.otel.shop.counted": 2,
                "tests.otel.shop.queried": 3,
            }
    assert found["GET /order/{number}"] == found["GET /async/{number}"] == REQUESTS // 2
