"""WSGI under real servers: wsgiref in a thread, gunicorn in processes."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

import afterglow
from afterglow.middleware import WsgiMiddleware
from afterglow.model.span import Span
from afterglow.record.context import current
from tests.conftest import Recording

App = Callable[..., Iterable[bytes]]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(app: App) -> Iterator[http.client.HTTPConnection]:
    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()
        server.shutdown()
        thread.join()
        server.server_close()


def asked(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Kind", "tea")])
    return [b"hello"]


def test_a_request_under_a_real_server(recording: Recording) -> None:
    app = WsgiMiddleware(validator(plain), recording.tracer)
    with served(app) as connection:
        assert asked(connection, "/orders/7?card=1234", Cookie="secret") == (200, b"hello")
    span = recording.one()
    assert (span.name, span.kind, span.status) == ("GET", "server", "unset")
    assert span.parent_span_id == 0
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/orders/7",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": connection.port,
    }


def test_what_is_asked_for_is_recorded(recording: Recording) -> None:
    app = WsgiMiddleware(
        plain, recording.tracer, record_query=True,
        request_headers=["X-Shop"], response_headers="x-kind",
    )  # fmt: skip
    with served(app) as connection:
        asked(connection, "/?a=1", **{"X-Shop": "north", "X-Other": "no"})
    attributes = recording.one().attributes
    assert attributes["url.query"] == "a=1"
    assert attributes["http.request.header.x-shop"] == ["north"]
    assert attributes["http.response.header.x-kind"] == ["tea"]
    assert not [name for name in attributes if "other" in name]


def test_the_callers_trace_goes_on_and_spans_are_children(recording: Recording) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        with recording.tracer.span("inside"):
            pass
        yield b"a"
        with recording.tracer.span("later"):
            pass
        yield b"b"

    with served(WsgiMiddleware(app, recording.tracer)) as connection:
        header = f"00-{7:032x}-{9:016x}-01"
        assert asked(connection, "/", traceparent=header) == (200, b"ab")
    spans = recording.by_name()
    request = spans["GET"]
    assert (request.trace_id, request.parent_span_id, request.remote_parent) == (7, 9, True)
    assert {spans[n].parent_span_id for n in ("inside", "later")} == {request.span_id}
    assert max(spans[n].end_ns or 0 for n in ("inside", "later")) <= (request.end_ns or 0)


def called(app: App, **environ: Any) -> tuple[Any, list[str]]:
    setup_testing_defaults(environ)
    statuses: list[str] = []
    return app(environ, lambda status, headers, *more: statuses.append(status)), statuses


def test_a_generator_leaves_the_server_its_context(recording: Recording) -> None:
    seen: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            seen.append(recording.tracer.current_span)
            yield b"a"
            seen.append(recording.tracer.current_span)
            yield b"b"
        finally:
            seen.append(recording.tracer.current_span)

    with recording.tracer.span("server") as server:
        body, _ = called(WsgiMiddleware(app, recording.tracer))
        assert recording.tracer.current_span is server
        assert next(body) == b"a"
        assert recording.tracer.current_span is server
        assert next(body) == b"b"
        body.close()  # the client went away
        assert recording.tracer.current_span is server
    assert len(set(map(id, seen))) == 1 and seen[0] is not server
    request = recording.by_name()["GET"]
    assert [event.name for event in request.events] == ["client disconnected"]


@pytest.mark.parametrize("where", ["call", "first", "later"])
def test_what_the_program_raises(recording: Recording, where: str) -> None:
    def later() -> Iterator[bytes]:
        if where == "first":
            raise ValueError("no tea")
        yield b"a"
        raise ValueError("no tea")

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if where == "call":
            raise ValueError("no tea")
        start_response("200 OK", [])
        return later()

    with pytest.raises(ValueError, match="no tea"):
        list(called(WsgiMiddleware(app, recording.tracer))[0])
    assert current.get() is None
    span = recording.one()
    assert (span.status, span.attributes["error.type"]) == ("error", "ValueError")
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize(("status", "wanted"), [("404 Not Found", "unset"), ("503 No", "error")])
def test_statuses(recording: Recording, status: str, wanted: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, [])
        return []

    called(WsgiMiddleware(app, recording.tracer), REQUEST_METHOD="BREW")
    span = recording.one()
    assert (span.name, span.status) == ("HTTP", wanted)
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"
    assert span.attributes.get("error.type") == ("503" if wanted == "error" else None)


def test_bodies_that_servers_know_stay_what_they_are(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"file")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"]((tmp_path / "x").open("rb"))

    body, _ = called(WsgiMiddleware(app, recording.tracer), **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(body, FileWrapper)
    assert recording.spans() == []
    assert b"".join(body) == b"file"
    body.close()
    assert body.filelike.closed
    assert recording.one().name == "GET"
    assert called(WsgiMiddleware(plain, recording.tracer))[0] == [b"hello"]


def test_the_route_that_flask_and_bottle_know(recording: Recording) -> None:
    class Rule:
        rule = "/orders/<id>"

    class Request:
        url_rule = Rule

    def flask(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["werkzeug.request"] = Request
        return plain(environ, start_response)

    called(WsgiMiddleware(flask, recording.tracer), SCRIPT_NAME="/shop")
    span = recording.one()
    assert (span.name, span.attributes["http.route"]) == (
        "GET /shop/orders/<id>",
        "/shop/orders/<id>",
    )


APP = """
import afterglow, os
from afterglow.middleware import WsgiMiddleware
tracer = afterglow.Tracer("g.db")
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    with tracer.span("inside"):
        yield str(os.getpid()).encode()
app = WsgiMiddleware(app, tracer)
"""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_gunicorn_that_forks_after_loading(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "--threads", "2",
         "--no-control-socket", "-b", f"127.0.0.1:{port}", "shop:app"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "Booting worker" in line:
            break
    workers: set[bytes] = set()
    asks = 0
    # Until both have answered: one that is still booting does not hear that it shall stop.
    while len(workers) < 2 or asks < 20:
        asks += 1
        assert asks < 10_000, said
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        status, worker = asked(connection, "/x")
        assert status == 200
        workers.add(worker)
        connection.close()
    server.terminate()
    try:
        _, rest = server.communicate(timeout=30)
    finally:
        server.kill()  # nothing, where it has ended
    assert server.returncode == 0, rest
    with afterglow.open(tmp_path / "g.db") as database:
        spans: list[Span] = list(database.spans())
    assert len(spans) == 2 * asks
    requests = {span.span_id: span for span in spans if span.name == "GET"}
    inside = [span for span in spans if span.name == "inside"]
    assert {span.parent_span_id for span in inside} == set(requests)
    assert len({span.pid for span in spans}) == 2


def test_without_a_tracer_the_settings_say_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(tmp_path / "w.db"))
    app = WsgiMiddleware(plain)
    called(app)
    app.tracer.close()
    with afterglow.open(tmp_path / "w.db") as database:
        assert [span.name for span in database.spans()] == ["GET"]
