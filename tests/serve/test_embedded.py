"""One machine and a file: the service as its users run it, with stock OpenTelemetry programs."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.serve.serving import (
    Serving,
    afterglow,
    assembled_in,
    one,
    query,
    run_program,
    spans_in,
    until,
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "afterglow.db"


@pytest.mark.parametrize("exporter", ["http", "grpc"])
def test_a_stock_program_with_its_endpoint_set_is_in_the_report(
    database: Path, exporter: str
) -> None:
    with Serving(database) as serving:
        endpoint = serving.http if exporter == "http" else f"http://{serving.grpc}"
        run_program(endpoint, traces=4, exporter=exporter)
        # Visible before it is assembled, by what others see: the report.
        until(lambda: spans_in(database) == 12, "not visible")
        status, out, err = afterglow("report", str(database))
        assert status == 0, err
        assert {"shop", "checkout", "cart", "pay"} <= set(out.split())
        until(lambda: assembled_in(database) == 12, "not assembled")
        assert one(database, "SELECT count(*) FROM segments") == 4
        assert serving.stop() == 0
    assert "secret!" not in str(query(database, "SELECT attributes FROM spans"))
    status, out, err = afterglow("audit", str(database))
    assert status == 0, out + err
    assert "the books of the service balance" in out


def test_health_readiness_and_metrics(database: Path) -> None:
    with Serving(database) as serving:
        assert serving.get("/healthz") == (200, "ok\n")
        assert serving.get("/readyz") == (200, "ok\n")
        run_program(serving.http, traces=2)
        assert serving.metric('afterglow_accepted_spans_total{face="http"}') == 6
        assert serving.metric("afterglow_buffer_ingested_spans_total") == 6
        until(lambda: serving.metric('afterglow_sink_spans_total{sink="store"}') == 6, "not stored")
        until(lambda: serving.metric("afterglow_buffer_held_spans") == 0, "held")
        assert serving.metric("afterglow_buffer_delivered_spans_total") == 6
        assert serving.metric("afterglow_ready") == 1
        assert serving.metric('afterglow_flusher_up{flusher="0"}') == 1
        assert serving.stop() == 0


def test_two_tenants_never_share_a_file(database: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    shop, bank = "s" * 24, "b" * 24
    tokens.write_text(f"{shop} shop\n{bank} bank  # a comment\n")
    with Serving(database, "--token-file", str(tokens)) as serving:
        for token, traces in ((shop, 1), (bank, 2)):
            run_program(
                serving.http,
                traces=traces,
                OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{token}",
            )
        files = {name: tmp_path / f"afterglow.{name}.db" for name in ("shop", "bank")}
        until(lambda: assembled_in(files["shop"]) == 3, "shop")
        until(lambda: assembled_in(files["bank"]) == 6, "bank")
        assert (spans_in(files["shop"]), spans_in(files["bank"])) == (3, 6)
        assert not database.exists()
        assert serving.post(b"", token="x" * 24) == 401
        assert serving.post(b"") == 401
        assert serving.post(b"", token=shop, project="bank") == 403
        assert serving.stop() == 0
        assert not any(token in line for token in (shop, bank) for line in serving.lines)


def test_what_is_in_the_way_is_one_line_and_exit_code_2(database: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for face in ("--http", "--grpc"):
            with Serving(database, face, f"127.0.0.1:{port}") as serving:
                assert serving.ended() == 2
                (line,) = serving.lines
                assert line.startswith("afterglow: cannot listen at 127.0.0.1:")
    other = tmp_path / "other.db"
    other.write_bytes(b"SQLite format 3\x00" + b"of somebody else" * 100)
    with Serving(other) as serving:
        assert serving.ended() == 2
        (line,) = serving.lines
        assert "other.db" in line
    with Serving(database, "--token-file", str(tmp_path / "none")) as serving:
        assert serving.ended() == 2
        (line,) = serving.lines
        assert "cannot read the tokens" in line
    with Serving(database, "--http", "0.0.0.0:0") as serving:
        assert serving.ended() == 2
        (line,) = serving.lines
        assert "set tokens or tokens_file" in line


def test_one_service_a_database(database: Path) -> None:
    with Serving(database) as first:
        first.said("spans are kept in")
        with Serving(database) as second:
            assert second.ended() == 2
            (line,) = second.lines
            assert f"(pid {first.process.pid})" in line
        run_program(first.http, traces=1)
        assert first.stop(signal.SIGINT) == 0


def test_a_second_signal_ends_it_at_once(database: Path) -> None:
    """While it starts or stops; whatever it does then."""
    with Serving(database) as serving:
        serving.said("spans are kept in")
        serving.process.send_signal(signal.SIGTERM)
        serving.process.send_signal(signal.SIGINT)
        assert serving.ended() == 130


def test_the_log_is_an_object_a_line(database: Path) -> None:
    with Serving(database, "--log-format", "json") as serving:
        serving.said("spans are kept in")
        assert serving.stop() == 0
        lines = [json.loads(line) for line in serving.lines]
    assert lines
    assert all(line.keys() == {"time", "level", "part", "message"} for line in lines)


def test_programs_that_record_into_the_same_file_are_folded(database: Path) -> None:
    import afterglow as ours

    with Serving(database, env={"AFTERGLOW_KEEP_INTERVAL_S": "0.1"}) as serving:
        run_program(serving.http, traces=1)
        until(lambda: spans_in(database) == 3, "received")
        with ours.Tracer(database) as tracer, tracer.span("recorded here"):
            pass
        until(lambda: spans_in(database) == 4, "not folded")
        assert serving.stop() == 0
