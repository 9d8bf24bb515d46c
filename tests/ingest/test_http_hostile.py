"""OTLP/HTTP and peers that are broken, slow, or mean harm: bare sockets, and bytes as they are."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest

from afterglow.ingest import http_protocol

from .conftest import Rig, request_of

BODY = request_of(2)
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: here\r\ncontent-type: application/x-protobuf\r\n"


def whole(body: bytes = BODY, extra: bytes = b"") -> bytes:
    return HEAD + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def answer(peer: socket.socket) -> tuple[int, bytes]:
    """The status and body of the next response; (0, b"") where the connection was closed."""
    with contextlib.suppress(ConnectionError), peer.makefile("rb") as stream:
        return answer_in(stream)
    return 0, b""


def answer_in(stream: BinaryIO) -> tuple[int, bytes]:
    first = stream.readline()
    if not first:
        return 0, b""
    length = 0
    while line := stream.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return int(first.split()[1]), stream.read(length)


def is_closed(peer: socket.socket) -> bool:
    """Whether the other side closes; waits for that as long as the socket's timeout."""
    with contextlib.suppress(ConnectionError):
        while peer.recv(1 << 16):
            pass
    return True


@pytest.fixture
def peer(rig: Rig) -> Iterator[socket.socket]:
    with rig.connect() as sock:
        yield sock


# --- broken


@pytest.mark.parametrize(
    "bytes_of",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/traces HTTP/9.9\r\n\r\n",
        b"CONNECT here:80 HTTP/1.1\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1e3\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
        HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        HEAD + b"bad header\r\n\r\n",
        HEAD + b"a: b\x00c\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_and_closed(
    rig: Rig, peer: socket.socket, bytes_of: bytes
) -> None:
    peer.sendall(bytes_of)
    status, _ = answer(peer)
    assert status in (400, 404, 405)
    if status == 400:
        assert is_closed(peer)
    assert rig.buffer.begun == 0
    assert rig.send(BODY)[0] == 200


def test_a_body_that_is_cut_short_is_never_taken(rig: Rig, peer: socket.socket) -> None:
    peer.sendall(whole()[:-1])
    peer.shutdown(socket.SHUT_WR)
    assert is_closed(peer)
    assert rig.send(request_of(first=7))[0] == 200
    assert rig.buffer.begun == 1
    assert rig.outcomes() == {"timeout": 1, "accepted": 1}


def test_chunks_in_all_sizes(rig: Rig, peer: socket.socket) -> None:
    chunks = b"".join(b"1;note=x\r\n%c\r\n" % byte for byte in BODY)
    peer.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\na: b\r\n\r\n")
    assert answer(peer) == (200, b"")
    assert len(rig.buffer.spans) == 2


def test_a_chunked_body_that_is_too_large(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(otlp={"max_body_bytes": 100_000})
    with rig.connect() as peer:
        peer.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            peer.sendall(b"c350\r\n" + bytes(50_000) + b"\r\n")
        assert answer(peer)[0] == 413
    assert rig.outcomes() == {"too_large": 1}


def test_a_length_that_is_too_large_is_answered_before_the_body(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(otlp={"max_body_bytes": 100_000})
    with rig.connect() as peer:
        peer.sendall(HEAD + b"content-length: 100001\r\nexpect: 100-continue\r\n\r\n")
        assert answer(peer)[0] == 413
        # What comes all the same is read and thrown away, and the connection is good for more.
        peer.sendall(bytes(100_001) + whole())
        assert answer(peer)[0] == 200
    assert rig.total("received_bytes") == len(BODY)


def test_continue_is_said_only_where_the_body_is_wanted(rig: Rig, peer: socket.socket) -> None:
    head, _, body = whole(extra=b"expect: 100-continue\r\n").partition(b"\r\n\r\n")
    peer.sendall(head + b"\r\n\r\n")
    assert answer(peer)[0] == 100
    peer.sendall(body)
    assert answer(peer)[0] == 200


def test_neither_length_nor_chunks(rig: Rig, peer: socket.socket) -> None:
    peer.sendall(HEAD + b"\r\n")
    assert answer(peer)[0] == 411


# --- one connection, many requests


def test_pipelined_requests_are_answered_in_order(rig: Rig, peer: socket.socket) -> None:
    bad = whole(b"\xff\xff")
    peer.sendall(b"".join(whole(request_of(first=i)) + bad for i in range(1, 11)))
    with peer.makefile("rb") as stream:
        statuses = [answer_in(stream)[0] for _ in range(20)]
    assert statuses == [200, 400] * 10
    assert len(rig.buffer.spans) == 10


def test_what_is_good_is_answered_before_what_is_bad(rig: Rig, peer: socket.socket) -> None:
    """Rubbish behind a request must not be taken for the answer to it."""
    rig.buffer.open.clear()
    peer.sendall(whole() + b"rubbish\r\n\r\n")
    assert rig.buffer.adding.acquire(timeout=30)
    rig.buffer.open.set()
    assert answer(peer)[0] == 200
    assert is_closed(peer)


@pytest.mark.parametrize("cut", [0, 1, 20, 40])
def test_an_upgrade_is_not_taken_up_and_loses_nothing(
    rig: Rig, peer: socket.socket, cut: int
) -> None:
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    first = whole(extra=offer)
    chunked = HEAD + offer + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY
    peer.sendall(first[: len(first) - cut])
    while not rig.http._server.server_state.connections:
        pass
    peer.sendall(first[len(first) - cut :] + chunked + b"\r\n0\r\n\r\n" + whole())
    with peer.makefile("rb") as stream:
        assert [answer_in(stream)[0] for _ in range(3)] == [200, 200, 200]
    assert len(rig.buffer.spans) == 6


def test_http_1_0(rig: Rig, peer: socket.socket) -> None:
    peer.sendall(whole().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer(peer)[0] == 200
    assert is_closed(peer)


# --- floods


def test_too_many_headers(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_header_bytes=4_096)
    with rig.connect() as peer:
        peer.sendall(HEAD + b"a: b\r\n" * 2_000)
        assert answer(peer)[0] == 431
        assert is_closed(peer)


def test_whole_headers_that_are_too_large(make_rig: Callable[..., Rig]) -> None:
    """They come in one piece with their body."""
    rig = make_rig(max_header_bytes=4_096)
    with rig.connect() as peer:
        peer.sendall(whole(extra=b"a: " + b"b" * 5_000 + b"\r\n"))
        assert answer(peer)[0] == 431
    with rig.connect() as peer:
        peer.sendall(b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\n\r\n")
        assert answer(peer)[0] == 431
    assert rig.buffer.begun == 0


@pytest.mark.parametrize(
    "begin",
    [
        HEAD + b"a: ",
        b"GET /",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ",
    ],
    ids=["header", "path", "note on a chunk", "trailer"],
)
def test_one_line_without_an_end(make_rig: Callable[..., Rig], begin: bytes) -> None:
    rig = make_rig(max_header_bytes=4_096)
    with rig.connect() as peer:
        peer.sendall(begin)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                sent += peer.send(b"x" * 65_536)
        assert sent < 16 << 20, "it reads for ever"
    assert rig.buffer.begun == 0


def test_trailers_without_an_end(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_header_bytes=4_096)
    with rig.connect() as peer:
        peer.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 1_000)
        assert answer(peer)[0] == 431
    assert rig.buffer.begun == 0


# --- slow


def test_headers_that_do_not_come(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(header_timeout_s=0.05)
    with rig.connect() as silent, rig.connect() as slow:
        slow.sendall(HEAD)
        assert answer(slow)[0] == 408
        assert is_closed(slow)
        assert is_closed(silent)


def test_empty_lines_are_no_headers(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(header_timeout_s=0.05)
    with rig.connect() as peer:
        peer.sendall(whole())
        assert answer(peer)[0] == 200
        peer.sendall(b"\r\n")
        assert is_closed(peer)


def test_a_body_that_does_not_come(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(body_timeout_s=0.05)
    with rig.connect() as peer:
        peer.sendall(whole()[:-1])
        assert answer(peer)[0] == 408
        assert is_closed(peer)
    assert rig.outcomes() == {"timeout": 1}


def test_a_connection_that_is_not_used_again(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(keep_alive_s=0.05)
    with rig.connect() as peer:
        peer.sendall(whole())
        assert answer(peer)[0] == 200
        assert is_closed(peer)


# --- many


def test_more_connections_than_there_may_be(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_connections=5)
    with contextlib.ExitStack() as held:
        peers = [held.enter_context(rig.connect()) for _ in range(5)]
        for peer in peers:
            peer.sendall(whole())
            assert answer(peer)[0] == 200
        status, headers, _ = rig.send(BODY)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        peers[0].close()
        while rig.send(BODY)[0] != 200:
            pass
    assert rig.outcomes()["refused"] >= 1


def test_a_thousand_connections(make_rig: Callable[..., Rig]) -> None:
    """Most are told to come later, or closed; who is inside is served."""
    rig = make_rig(max_connections=100)
    with contextlib.ExitStack() as held:
        peers = [held.enter_context(rig.connect()) for _ in range(1_000)]
        for number, peer in enumerate(peers, 1):
            with contextlib.suppress(ConnectionError):
                peer.sendall(whole(request_of(first=number)))
        statuses = [answer(peer)[0] for peer in peers]
        assert statuses.count(200) >= 100
        assert set(statuses) <= {0, 200, 503}
        assert statuses.count(0) > 500, "far too many were let in only to be told to go"
        assert len(rig.buffer.spans) == statuses.count(200)
        assert len(rig.http._server.server_state.connections) <= 164


def test_bodies_that_wait_are_bounded_together(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_waiting_bytes=1 << 20)
    with rig.connect() as slow:
        half = HEAD + b"content-length: 2000000\r\n\r\n"
        slow.sendall(half + bytes(900_000))
        while rig.http._app._waiting.held_bytes < 900_000:
            pass
        status, headers, _ = rig.send(request_of(name="x" * 200_000))
        assert (status, headers["retry-after"]) == (429, "1")
        assert rig.send(BODY)[0] == 200
        slow.close()
        while rig.send(request_of(name="x" * 200_000))[0] != 200:
            pass
    assert rig.http._app._waiting.held_bytes == 0


# --- peers that take the answer and go on, or do not take it


def test_a_body_after_its_answer_is_read_for_a_while_only(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "_LINGER_S", 0.05)
    rig = make_rig(otlp={"max_body_bytes": 100_000})
    with rig.connect() as peer:
        peer.sendall(HEAD + b"content-length: 100001\r\n\r\n" + bytes(10))
        assert answer(peer)[0] == 413
        assert is_closed(peer)


def test_a_peer_that_does_not_read(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "_LINGER_S", 0.05)
    rig = make_rig(routes={"/large": lambda: (200, "text/plain", bytes(16 << 20))})
    with rig.connect() as peer:
        peer.sendall(b"GET /large HTTP/1.1\r\n\r\n" * 5)
        connections = rig.http._server.server_state.connections
        while not connections:
            pass
        while connections:
            pass
    assert rig.send(BODY)[0] == 200
