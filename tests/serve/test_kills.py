"""Three collectors around a Redis Cluster, two flushers each, into PostgreSQL, under load, while a
collector, a flusher and a master are killed: every span is there at the end, once.

`make soak` does this for five minutes at 20,000 spans a second (or as many as the machine takes:
senders wait for answers); `make test` for some thousand spans, with the same deaths.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from scripts.redis_cluster import RedisCluster
from tests.serve.serving import PATIENCE_S, Serving, afterglow, environment, until
from tests.serve.test_cluster import flusher_pids

ROOT = Path(__file__).resolve().parents[2]
_TURN_SPANS = 10_000
_FAST = {"AFTERGLOW_BUFFER_ROOT_TIMEOUT_S": "2", "AFTERGLOW_BUFFER_TIMEOUT_S": "20",
         "AFTERGLOW_BUFFER_LEASE_S": "15"}  # fmt: skip


@pytest.mark.parametrize(
    ("turns", "per_s"),
    [
        (4, 4_000),
        pytest.param(60, 20_000, marks=pytest.mark.soak),
        pytest.param(600, 20_000, marks=pytest.mark.soak),
    ],
)
def test_a_collector_a_flusher_and_a_master_die_under_load(
    redis_cluster: RedisCluster, postgres: str, tmp_path: Path, turns: int, per_s: int
) -> None:
    spans = turns * _TURN_SPANS
    with Crew(redis_cluster, postgres, tmp_path) as crew, load(crew.urls, turns, per_s) as sender:
        until(lambda: crew.stored() >= spans // 8, "nothing is stored", 600)
        crew.kill_and_restart(1)
        until(lambda: crew.stored() >= spans // 4, "nothing more is stored", 600)
        os.kill(flusher_pids(crew.collectors[0])[0], signal.SIGKILL)
        until(lambda: crew.stored() >= spans // 2, "nothing more is stored", 600)
        dead = redis_cluster.kill(redis_cluster.masters()[0])
        redis_cluster.wait_promoted(dead)
        redis_cluster.restart(dead)
        out, _ = sender.communicate(timeout=3_600)
        assert sender.returncode == 0
        until(lambda: crew.stored() >= spans, "spans never came out", 600)
        print(json.loads(out.splitlines()[-1]))  # with -s: how fast it was
        until(lambda: crew.held() == 0, "something is still held", 600)
        crew.all_are_there(turns)
        status, books, err = afterglow("audit", "--buffer", redis_cluster.url, "--json")
        assert status == 0, books + err


class Crew:
    """The collectors; `stop` ends them as an operator would."""

    def __init__(self, cluster: RedisCluster, postgres: str, folder: Path) -> None:
        self._cluster = cluster
        self._postgres = postgres
        self._folder = folder
        self.collectors = [self._start(number) for number in range(3)]
        #: They come back under the addresses that they had: senders know no others.
        self.urls = [collector.http for collector in self.collectors]

    def _start(self, number: int, address: str = "127.0.0.1:0") -> Serving:
        return Serving(
            self._folder / f"{number}.db", "--buffer", self._cluster.url, "--flushers", "2",
            "--store", self._postgres, "--no-retention", "--http", address, env=_FAST,
        )  # fmt: skip

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for collector in self.collectors:
            collector.__exit__(*error)

    def kill_and_restart(self, number: int) -> None:
        """kill -9, with all that it started."""
        dead = self.collectors[number]
        flushers = flusher_pids(dead)
        dead.kill()
        for pid in flushers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dead.__exit__(None, None, None)
        self.collectors[number] = self._start(number, self.urls[number].removeprefix("http://"))
        assert self.collectors[number].http == self.urls[number]

    def _ask(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self._postgres, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def stored(self) -> float:
        """Spans that were delivered, by the books in Redis; asked for now and then only."""
        time.sleep(0.5)
        return self.collectors[0].metric("afterglow_buffer_delivered_spans_total") or 0.0

    def held(self) -> float | None:
        return self.collectors[0].metric("afterglow_buffer_held_spans")

    def all_are_there(self, turns: int) -> None:
        """Each trace of each turn has its 20 spans; there is nothing else."""
        ((spans, traces, whole),) = self._ask(
            "SELECT sum(n)::bigint, count(*), count(*) FILTER (WHERE n = 20) FROM"
            " (SELECT count(*) AS n FROM afterglow_spans.span GROUP BY trace_id) AS found"
        )
        assert (spans, traces, whole) == (
            turns * _TURN_SPANS, turns * _TURN_SPANS // 20, turns * _TURN_SPANS // 20
        )  # fmt: skip


@contextmanager
def load(urls: list[str], turns: int, per_s: int) -> Iterator[subprocess.Popen[str]]:
    """Senders that send each request again until one of the collectors acknowledges it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.collect.load", ",".join(urls),
         "--spans", str(_TURN_SPANS), "--turns", str(turns), "--rate", str(per_s)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()
