"""Programs that send what they record: to a real server, which comes and goes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import SettingError
from afterglow.ledger import balanced
from afterglow.otlp.answer import export_answer
from tests.sink.backend import Backend, answer, drip


def test_a_tracer_sends(backend: Backend) -> None:
    with afterglow.Tracer(backend.url, service_name="shop", send_headers="x=y") as tracer:
        with tracer.span("request", route="/"), tracer.span("query", rows=3):
            pass
        tracer.start_span("open")
        assert tracer.flush()
        assert backend.names() == ["query", "request"]
    assert sorted(backend.names()) == ["query", "request"]  # open spans are not sent
    query: Any
    query, request = (span for got in backend.got for span in got.spans())
    assert query.parent_span_id == request.span_id and query.trace_id == request.trace_id
    assert query.end_time_unix_nano >= query.start_time_unix_nano > 1_600_000_000 * 10**9
    own = {pair.key: pair.value for pair in query.attributes}
    assert own.pop("rows").int_value == 3
    assert own.pop("thread.id").int_value == threading.get_native_id()
    assert own.pop("thread.name").string_value == threading.current_thread().name
    assert not own
    assert backend.got[0].headers["x"] == "y"
    for word in (b"service.name", b"shop", b"process.pid", b"host.name", b"telemetry.sdk.name"):
        assert word in backend.got[0].body
    books = tracer.ledger()
    assert balanced(books) and books["in_flight"] == 0
    assert tracer.path is None


def test_the_environment_says_where(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_SEND_URL", backend.url)
    with afterglow.Tracer() as tracer, tracer.span("a"):
        pass
    assert backend.names() == ["a"]


def test_a_server_that_is_away_and_comes_back(backend: Backend) -> None:
    backend.stop()
    said: list[str] = []
    with afterglow.Tracer(backend.url, report=said.append) as tracer:
        for number in range(50):
            with tracer.span(f"{number}"):
                pass
        assert not tracer.flush()
        assert tracer.ledger()["written"] == 0
        backend.start()
    assert sorted(backend.names(), key=int) == [f"{n}" for n in range(50)]
    assert tracer.ledger()["written"] == 50
    assert any("spans wait" in line for line in said)


def test_what_is_refused_is_counted(backend: Backend) -> None:
    with afterglow.Tracer(backend.url, report=lambda _: None) as tracer:
        backend.answers = [answer(200, export_answer(1, "no", json=False)), answer(400)]
        for names in ("ab", "cde"):
            for name in names:
                with tracer.span(name):
                    pass
            assert tracer.flush()
    books = tracer.ledger()
    assert balanced(books)
    assert (books["written"], books["dropped"]) == (1, {"sink_refused": 4})


def test_of_a_batch_that_went_half_through_the_rest_is_sent(backend: Backend) -> None:
    keep = lambda handler, got: (backend.got.append(got), answer(200)(handler, got))  # noqa: E731
    with afterglow.Tracer(
        backend.url, send_max_request_bytes=1024, report=lambda _: None
    ) as tracer:
        backend.answers = [keep, answer(503)]
        for number in range(20):
            with tracer.span(f"{number}"):
                pass
    assert sorted(backend.names(), key=int) == [f"{n}" for n in range(20)]
    assert tracer.ledger()["written"] == 20


def test_close_does_not_wait_for_a_server_that_hangs(backend: Backend) -> None:
    backend.answers = [drip]
    with (
        afterglow.Tracer(backend.url, shutdown_timeout_s=0.1, report=lambda _: None) as tracer,
        tracer.span("a"),
    ):
        pass
    assert tracer.ledger()["dropped"] == {"shutdown_timeout": 1}


def test_texts_that_utf8_cannot_carry(backend: Backend) -> None:
    with afterglow.Tracer(backend.url) as tracer:
        with tracer.span("a\ud800", key="\udfff", huge=1 << 63):
            pass
        with tracer.span("b"):
            pass
    assert len(backend.names()) == 2


@pytest.mark.parametrize("url", ["http://", "grpc://x/path", "http://a:b@c"])
def test_a_url_that_cannot_be_is_said_at_once(url: str) -> None:
    with pytest.raises(SettingError):
        afterglow.Tracer(url)


def test_afterglow_run_sends(backend: Backend, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def work():\n    return 1\nwork()\nprint('done')\n")
    run = [sys.executable, "-m", "afterglow", "run"]
    done = subprocess.run(
        [*run, "--send", backend.url, str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "done\n" and done.stderr == ""
    assert any("work" in name for name in backend.names())
    assert list(tmp_path.iterdir()) == [script]
    wrong = subprocess.run(
        [*run, "--send", "http://", str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode != 0 and wrong.stdout == ""
    assert len(wrong.stderr.splitlines()) == 1 and "[send]" in wrong.stderr


FORKS = """
import os, sys, afterglow
tracer = afterglow.Tracer(sys.argv[1])
with tracer.span("before"):
    pass
assert tracer.flush()
pid = os.fork()
with tracer.span("child" if pid == 0 else "parent"):
    pass
if pid:
    os.waitpid(pid, 0)
tracer.close()
"""


def test_a_forked_child_sends_by_a_connection_of_its_own(backend: Backend) -> None:
    subprocess.run([sys.executable, "-c", FORKS, backend.url], check=True)
    assert sorted(backend.names()) == ["before", "child", "parent"]
    assert len({got.peer for got in backend.got}) == 2
