"""Segments to a real OTLP/HTTP server: answers of all kinds, and none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.clock import SystemClock
from afterglow.config import SendConfig
from afterglow.counts import Counts
from afterglow.errors import SettingError, SinkError, SinkUnavailableError
from afterglow.model.segment import SegmentPart
from afterglow.otlp.answer import export_answer
from afterglow.sink.otlp import OtlpSink, cut
from afterglow.sink.otlp_answer import (
    of_http,
    partial_of_json,
    partial_of_protobuf,
    retry_after_s,
    retry_info_s,
)
from tests.sink.backend import Answers, Backend, answer, drip, raw, reset
from tests.sink.payloads import buffered, part_with


@pytest.fixture
def made() -> Iterator[list[OtlpSink]]:
    made: list[OtlpSink] = []
    yield made
    for sink in made:
        sink.close()
        sink.close()


@pytest.fixture
def sink_to(backend: Backend, made: list[OtlpSink]) -> Any:
    def make(**settings: Any) -> OtlpSink:
        settings = {"url": backend.url, "timeout_s": 5.0, **settings}
        sink = OtlpSink(SendConfig(**settings), counts=counts, report=said.append)
        made.append(sink)
        return sink

    counts, said = Counts(), list[str]()
    make.counts, make.said = counts, said  # type: ignore[attr-defined]
    return make


def page(*names: str, project: str = "default", trace: int = 1) -> SegmentPart:
    """A part of spans of these names."""
    spans = [
        buffered(at + 1, at, trace=trace, name=name, project=project)
        for at, name in enumerate(names)
    ]
    return part_with(spans)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_spans_arrive(backend: Backend, sink_to: Any, compression: str, protocol: str) -> None:
    sink = sink_to(compression=compression, protocol=protocol, headers="x-token=a%20b, y=z")
    sink.write([page("a", "b"), page("c", trace=2)])
    sink.write([page("d", trace=3)])
    assert [got.names() for got in backend.got] == [["a", "b", "c"], ["d"]]
    first, second = backend.got
    assert first.path == "/v1/traces" and first.peer == second.peer
    assert first.headers["x-token"] == "a b" and first.headers["y"] == "z"
    assert sink_to.counts.total("sink_spans") == 4


def test_a_request_is_cut(backend: Backend, sink_to: Any) -> None:
    sink = sink_to(max_request_bytes=1024)
    sink.write([page(*[f"{number}" * 100 for number in range(9)]), page("z", trace=2)])
    assert len(backend.got) > 1
    assert all(len(got.body) <= 1024 for got in backend.got)
    assert [name[0] for name in backend.names()] == [*"012345678", "z"]


def test_a_request_is_of_one_project_where_it_says_which(backend: Backend, sink_to: Any) -> None:
    sink = sink_to(project_header="X-Scope-OrgID")
    parts = [page(f"{n}", project="ab"[n % 2], trace=n + 1) for n in range(4)]
    sink.write(parts)
    found = {got.headers["x-scope-orgid"]: got.names() for got in backend.got}
    assert found == {"a": ["0", "2"], "b": ["1", "3"]} and len(backend.got) == 2


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_later(backend: Backend, sink_to: Any, status: int) -> None:
    sink = sink_to()
    backend.answers = [answer(status, Retry_After="7")]
    with pytest.raises(SinkUnavailableError, match=str(status)) as raised:
        sink.write([page("a")])
    assert raised.value.retry_after_s == 7
    sink.write([page("a")])
    assert backend.names() == ["a"]


@pytest.mark.parametrize("status", [400, 415, 422, 500])
def test_never(backend: Backend, sink_to: Any, status: int) -> None:
    backend.answers = [answer(status, b"\x08\x03\x12\x04what")]
    with pytest.raises(SinkError, match=f"{status}: what") as raised:
        sink_to().write([page("a")])
    assert not isinstance(raised.value, SinkUnavailableError)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_token_loses_nothing(backend: Backend, sink_to: Any, status: int) -> None:
    backend.answers = [answer(status)]
    with pytest.raises(SinkUnavailableError, match="right"):
        sink_to().write([page("a")])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(backend: Backend, sink_to: Any, status: int) -> None:
    other = Backend().start()
    try:
        backend.answers = [answer(status, Location=other.url)]
        with pytest.raises(SinkUnavailableError, match="not followed"):
            sink_to(headers="authorization=secret").write([page("a")])
        assert other.seen == 0
    finally:
        other.stop()


def test_too_large_is_halved(backend: Backend, sink_to: Any) -> None:
    sink = sink_to()
    backend.answers = [answer(413)]
    sink.write([page("a", "b", "c")])
    assert [got.names() for got in backend.got] == [["a"], ["b", "c"]]
    backend.answers = [answer(413)]
    with pytest.raises(SinkError, match="413"):
        sink.write([page("d")])


@pytest.mark.parametrize("json", [False, True])
def test_rejected_spans_are_counted_and_said(backend: Backend, sink_to: Any, json: bool) -> None:
    kind = "application/json" if json else "application/x-protobuf"
    body = export_answer(2, "too old", json=json)
    backend.answers = [answer(200, body, content_type=kind)] * 2
    sink = sink_to()
    sink.write([page("a", "b", "c")])
    sink.write([page("d", "e", trace=2)])
    assert sink.rejected_spans == 4
    assert sink_to.counts.total("sink_spans") == 1
    assert sink_to.counts.total("sink_dropped_spans") == 4
    assert len(sink_to.said) == 1 and "rejected 2 spans: too old" in sink_to.said[0]


@pytest.mark.parametrize(
    "rude",
    [
        reset,
        raw(b""),
        raw(b"\x00\xff" * 40),
        raw(b"HTTP/1.1 2x0 OK\r\n\r\n"),
        raw(b"SSH-2.0-OpenSSH\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000),
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n"),
    ],
)
def test_rude_answers_are_none(backend: Backend, sink_to: Any, rude: Answers) -> None:
    sink = sink_to()
    backend.answers = [rude]
    with pytest.raises(SinkUnavailableError):
        sink.write([page("a")])
    sink.write([page("a")])
    assert backend.names() == ["a"]


def test_a_huge_answer_is_not_read(backend: Backend, sink_to: Any) -> None:
    sink = sink_to()
    backend.answers = [answer(200, b"x" * (8 << 20))]
    sink.write([page("a")])
    sink.write([page("b")])
    assert backend.names() == ["b"]


def test_garbage_in_a_good_answer_is_taken_for_taken(backend: Backend, sink_to: Any) -> None:
    backend.answers = [answer(200, b"\xff" * 30), answer(200, b"{", content_type="text/json")]
    sink = sink_to()
    sink.write([page("a", "b")])
    sink.write([page("c")])
    assert sink.rejected_spans == 0 and sink_to.counts.total("sink_spans") == 3


def test_an_answer_that_never_ends_is_given_up(backend: Backend, sink_to: Any) -> None:
    sink = sink_to(timeout_s=0.3)
    backend.answers = [drip]
    with pytest.raises(SinkUnavailableError, match=r"0\.3 s"):
        sink.write([page("a")])


def test_nobody_takes_the_connection(sink_to: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = sink_to(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(SinkUnavailableError, match="no answer"):
            sink.write([page("a")])
    with pytest.raises(SinkUnavailableError, match="refused"):
        sink.write([page("a")])


def test_a_server_that_is_stopped_and_started(backend: Backend, sink_to: Any) -> None:
    sink = sink_to()
    sink.write([page("a")])
    backend.stop()
    with pytest.raises(SinkUnavailableError):
        sink.write([page("b")])
    backend.start()
    sink.write([page("c")])
    assert backend.names()[-1] == "c"


def test_a_connection_that_went_stale_is_made_anew(backend: Backend, sink_to: Any) -> None:
    sink = sink_to()
    sink.write([page("a")])
    backend.answers = [raw(b"")]  # as a server does that closes idle connections
    sink.write([page("b")])
    assert backend.names() == ["a", "b"] and backend.seen == 3


def test_of_a_page_that_went_half_through_the_rest_is_sent(backend: Backend, sink_to: Any) -> None:
    sink = sink_to(max_request_bytes=1024)
    parts = [page(f"{n}" * 300, trace=n + 1) for n in range(6)]
    keep = [lambda handler, got: (backend.got.append(got), answer(200)(handler, got))] * 2
    backend.answers = [*keep, answer(503)]
    with pytest.raises(SinkUnavailableError):
        sink.write(parts)
    sink.write(parts)
    assert sorted(name[0] for name in backend.names()) == [*"012345"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://x"}, "none of"),
        ({"url": "http://"}, "none of"),
        ({"url": "http://u:pass@x"}, "headers"),
        ({"url": "http://x:99999"}, "no URL"),
        ({"url": "http://x/a b"}, "cannot"),
        ({"url": "grpc://x/path"}, "path"),
        ({"url": "grpc://x", "compression": "zstd"}, "gzip"),
        ({"headers": "authorization"}, "NAME=VALUE"),
        ({"headers": "a=%0d%0ab:%20c"}, "printable"),
        ({"headers": "content-length=5"}, "ours"),
        ({"project_header": "a b"}, "header"),
        ({"url": "https://x", "ca_file": "/nowhere.pem"}, "nowhere.pem"),
        ({"timeout_s": 0.0}, "out of range"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words) as raised:
        OtlpSink(SendConfig(**{"url": "http://x", **settings}))
    assert "pass" not in str(raised.value) or "password" in str(raised.value)


@given(st.binary(max_size=200), st.integers(100, 599), st.sampled_from(["", "a/json", "protobuf"]))
def test_any_answer_can_be_read(body: bytes, status: int, kind: str) -> None:
    result = of_http(status, {"content-type": kind, "retry-after": repr(body)}, body, 0)
    assert result.why.isprintable() and result.rejected >= 0
    partial_of_json(body), partial_of_protobuf(body), retry_info_s(body)


@given(st.integers(0, 1 << 62), st.text(st.characters(codec="utf-8"), max_size=50))
def test_what_we_answer_ourselves_can_be_read(rejected: int, why: str) -> None:
    for json, read in ((False, partial_of_protobuf), (True, partial_of_json)):
        assert read(export_answer(rejected, why, json=json)).rejected == rejected


def test_retry_after() -> None:
    now_ns = SystemClock().wall_ns()
    later = datetime.fromtimestamp(now_ns / 1e9, UTC) + timedelta(seconds=90)
    assert 88 <= retry_after_s(format_datetime(later, usegmt=True), now_ns) <= 90
    assert retry_after_s(" 5 ", now_ns) == 5
    for text in ("", "-3", "nan", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert retry_after_s(text, now_ns) == 0
    assert retry_after_s("1e9", now_ns) == 3_600


@given(st.lists(st.binary(max_size=40)), st.integers(1, 100))
def test_cut_loses_nothing(payloads: list[bytes], max_bytes: int) -> None:
    runs = list(cut(payloads, max_bytes))
    assert [payload for run in runs for payload in run] == payloads
    for run in runs:
        assert len(run) == 1 or sum(len(payload) + 6 for payload in run) <= max_bytes
