"""Whole traces sent on to another backend, which is a service of ours here; it goes away, too."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.serve.serving import Serving, afterglow, assembled_in, run_program, spans_in, until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_what_is_sent_on_waits_on_the_disk_while_the_other_side_is_away(tmp_path: Path) -> None:
    near, far = tmp_path / "near.db", tmp_path / "far.db"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    there = ("--http", f"127.0.0.1:{port}")
    env = {"AFTERGLOW_SEND_MAX_RETRY_S": "0.2", "AFTERGLOW_SEND_PATIENCE_S": "0.1"}
    with Serving(near, "--to-otlp", url, env=env) as serving:
        run_program(serving.http, traces=5)
        # Nobody is there: the store goes on, and what is sent on waits.
        until(lambda: assembled_in(near) == 15, "the store waits for the other side")
        until(lambda: serving.metric('afterglow_queue_spans{sink="otlp"}') == 15, "not queued")
        with Serving(far, *there) as backend:
            until(lambda: assembled_in(far) == 15, "not sent on")
            until(lambda: serving.metric('afterglow_queue_spans{sink="otlp"}') == 0, "queue")
            assert serving.metric('afterglow_sink_spans_total{sink="otlp"}') == 15
            assert backend.stop() == 0
        run_program(serving.http, traces=5)
        until(lambda: serving.metric('afterglow_queue_spans{sink="otlp"}') == 15, "not queued")
        serving.kill()
    status, out, err = afterglow("audit", str(near), "--json")
    assert status == 0, out + err
    (queue,) = json.loads(out)["service"]["sent_on"]
    assert queue == {
        "name": "otlp", "taken": 30, "sent": 15, "refused": 0, "dropped": 0, "queued": 15,
    }  # fmt: skip
    with Serving(near, "--to-otlp", url, env=env) as serving, Serving(far, *there) as backend:
        until(lambda: assembled_in(far) == 30, "the queue did not survive")
        assert (serving.stop(), backend.stop()) == (0, 0)
    assert (spans_in(near), spans_in(far)) == (30, 30)
