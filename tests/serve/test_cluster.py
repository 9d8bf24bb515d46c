"""One of many around a Redis: flushers in processes, collectors that share traces, the books."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.serve.serving import Serving, afterglow, assembled_in, one, run_program, spans_in, until
from tests.sink.payloads import buffered

FAST = {"AFTERGLOW_BUFFER_ROOT_TIMEOUT_S": "1", "AFTERGLOW_BUFFER_TIMEOUT_S": "2"}


def body(*spans: bytes) -> bytes:
    """A request of payloads, each a ResourceSpans."""
    request = ExportTraceServiceRequest()
    for span in spans:
        request.resource_spans.add().ParseFromString(span)
    return request.SerializeToString()


def test_redis_and_two_flushers(redis_single: SingleRedis, tmp_path: Path) -> None:
    database = tmp_path / "afterglow.db"
    with Serving(database, "--buffer", redis_single.url, "--flushers", "2", env=FAST) as serving:
        run_program(serving.http, traces=20)
        until(lambda: assembled_in(database) == 60, "not assembled")
        assert spans_in(database) == 60
        assert serving.get("/healthz") == (200, "ok\n")
        until(lambda: serving.metric('afterglow_sink_spans_total{sink="store"}') == 60, "counts")
        assert serving.metric("afterglow_buffer_delivered_spans_total") == 60
        # A flusher that dies comes back, and nobody's books suffer.
        flusher = flusher_pids(serving)[0]
        os.kill(flusher, signal.SIGKILL)
        until(
            lambda: (
                serving.metric('afterglow_flusher_deaths_total{flusher="0"}') == 1
                or serving.metric('afterglow_flusher_deaths_total{flusher="1"}') == 1
            ),
            "no death",
        )
        until(lambda: serving.get("/healthz")[0] == 200, "not healthy again")
        run_program(serving.http, traces=20)
        until(lambda: assembled_in(database) == 120, "not assembled")
        until(lambda: serving.metric('afterglow_sink_spans_total{sink="store"}') == 120, "counts")
        assert serving.stop() == 0
    status, out, err = afterglow("audit", str(database))
    assert status == 0, out + err


def flusher_pids(serving: Serving) -> list[int]:
    """The processes that the service started, but for multiprocessing's tracker."""
    children = Path(f"/proc/{serving.process.pid}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_two_collectors_share_a_trace(redis_cluster: RedisCluster, tmp_path: Path) -> None:
    """Spans of each trace come in through both; the file has each trace whole, once."""
    database = tmp_path / "afterglow.db"
    url = redis_cluster.url
    with (
        Serving(database, "--buffer", url, env=FAST) as first,
        Serving(database, "--buffer", url,
                env={**FAST, "AFTERGLOW_SERVE_FOLDER": str(tmp_path / "second")}) as second,
    ):  # fmt: skip
        for trace in range(1, 21):
            root, *children = (
                buffered(trace * 100 + i, trace * 100 if i else 0, trace=trace).payload
                for i in range(5)
            )
            assert first.post(body(*children)) == 200
            assert second.post(body(root, children[0])) == 200  # one of them again
        until(lambda: assembled_in(database) == 100, "not assembled")
        assert spans_in(database) == 100
        assert one(database, "SELECT count(DISTINCT root_span_id) FROM segments") == 20
        total = "afterglow_buffer_ingested_spans_total"
        until(lambda: first.metric(total) == second.metric(total) == 120, "books")
        dropped = 'afterglow_buffer_dropped_spans_total{project="default",reason="duplicate"}'
        assert second.metric(dropped) == 20
        status, out, err = afterglow("audit", "--buffer", url, "--json")
        assert status == 0, out + err
        books = json.loads(out)
        assert (books["received"], books["delivered"], books["in_flight"]) == (120, 100, 0)
        assert books["dropped"] == {"default": {"duplicate": 20}}
        assert (first.stop(), second.stop()) == (0, 0)


def test_not_ready_while_redis_is_away_and_ready_when_it_is_back(tmp_path: Path) -> None:
    with (
        SingleRedis() as server,
        Serving(tmp_path / "a.db", "--buffer", server.url, env=FAST) as serving,
    ):
        assert serving.get("/readyz")[0] == 200
        server.kill()
        until(lambda: serving.get("/readyz")[0] == 503, "still ready")
        assert "buffer: " in serving.get("/readyz")[1]
        assert serving.get("/healthz")[0] == 200  # a restart would not help
        serving.said("not ready: ")
        server.restart()
        until(lambda: serving.get("/readyz")[0] == 200, "not ready again")
        serving.said("ready: the buffer answers again")
        run_program(serving.http, traces=3)
        until(lambda: assembled_in(tmp_path / "a.db") == 9, "not assembled")
        assert serving.stop() == 0


def test_redis_in_the_way_is_one_line(redis_single: SingleRedis, tmp_path: Path) -> None:
    database = tmp_path / "afterglow.db"
    with Serving(database, "--buffer", "redis://127.0.0.1:1") as serving:
        assert serving.ended() == 2
        (line,) = serving.lines
        assert "redis://127.0.0.1:1" in line
    redis_single.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with Serving(database, "--buffer", redis_single.url) as serving:
        assert serving.ended() == 2
        (line,) = serving.lines
        assert "CONFIG SET maxmemory-policy noeviction" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    status, out, _err = afterglow(
        "serve", "--db", str(empty / "a.db"), "--buffer", redis_single.url, "--http", "off",
        "--grpc", "off", "--check",
    )  # fmt: skip
    assert status == 1
    assert "PROBLEM  buffer: " in out
    assert not list(empty.iterdir())


def test_collectors_keep_spans_in_postgresql(
    redis_single: SingleRedis, postgres: str, tmp_path: Path
) -> None:
    database = tmp_path / "afterglow.db"
    with Serving(
        database, "--buffer", redis_single.url, "--store", postgres, "--flushers", "2", env=FAST
    ) as serving:
        run_program(serving.http, traces=10)
        stored = 'afterglow_sink_spans_total{sink="postgres"}'
        until(lambda: serving.metric(stored) == 30, "not stored")
        status, out, err = afterglow("report", postgres)
        assert status == 0, err
        assert {"shop", "checkout", "cart", "pay"} <= set(out.split())
        assert serving.stop() == 0
    status, out, err = afterglow("audit", postgres)
    assert status == 0, out + err
    assert not database.exists()


def test_stopping_under_load_loses_nothing(redis_single: SingleRedis, tmp_path: Path) -> None:
    """What a sender was told is accepted is in Redis when the service is gone, or stored."""
    database = tmp_path / "afterglow.db"
    accepted: list[int] = []
    with Serving(database, "--buffer", redis_single.url, env=FAST) as serving:
        serving.said("spans are kept in")
        stopped = threading.Event()

        def send() -> None:
            for trace in range(1, 100_000):
                spans = [buffered(trace * 10 + i, trace * 10, trace=trace) for i in range(1, 5)]
                try:
                    status = serving.post(body(*(span.payload for span in spans)))
                except OSError:
                    return  # it listens no more
                if status == 200:
                    accepted.append(len(spans))
                elif stopped.is_set():
                    return

        sending = threading.Thread(target=send)
        sending.start()
        until(lambda: len(accepted) > 20, "nothing accepted")
        stopped.set()
        assert serving.stop() == 0
        sending.join(60)
    with Serving(database, "--buffer", redis_single.url, env=FAST):
        until(lambda: assembled_in(database) == sum(accepted), "not all is there")
    assert spans_in(database) == sum(accepted)
