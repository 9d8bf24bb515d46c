"""Node's own OpenTelemetry SDK and exporters as senders: JSON, protobuf, gRPC."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from afterglow.otlp.payload import read_payloads
from scripts import node_exporters

from .conftest import Rig

TOKEN = "node-token-0123456789"


@pytest.fixture(scope="module")
def peer() -> Path:
    """Where Node's exporters are installed."""
    try:
        return node_exporters.install()
    except node_exporters.NoNode as reason:
        pytest.skip(str(reason))


def send(peer: Path, rig: Rig, protocol: str, n_spans: int, *more: str) -> str:
    """What it said on stderr."""
    if protocol == "grpc":
        url = f"http://{rig.grpc.address}"
    else:
        url = f"http://{rig.http.address}/v1/traces"
    done = subprocess.run(
        [node_exporters.node(), "send.mjs", protocol, url, str(n_spans), *more],
        cwd=peer,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == f"{n_spans}\n"
    return done.stderr


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["json", "protobuf", "grpc"])
def test_every_span_arrives_as_it_was(
    peer: Path, rig: Rig, protocol: str, compression: str
) -> None:
    assert send(peer, rig, protocol, 500, compression) == ""
    received = read_payloads(span.payload for span in rig.buffer.spans)
    assert sorted(one.span.name for one in received) == sorted(f"work {i}" for i in range(500))
    assert all(span.is_segment_root is False for span in rig.buffer.spans)
    one = next(one for one in received if one.span.name == "work 7")
    assert one.resource["service.name"] == "from-node"
    assert one.span.attributes["text"] == "ü€😀"
    assert one.span.attributes["i"] == 7
    assert one.span.attributes["half"] == 0.5
    assert one.span.attributes["yes"] is True


# Its gRPC exporter repeats nothing, whoever answers what: refused spans are lost with their sender,
# which says so (docs/otlp-in.md).
@pytest.mark.parametrize("protocol", ["json", "protobuf"])
def test_it_repeats_what_was_refused(peer: Path, rig: Rig, protocol: str) -> None:
    rig.buffer.refuse_next = 2
    send(peer, rig, protocol, 400, "gzip")
    assert rig.buffer.refuse_next == 0
    assert len(rig.buffer.spans) == 400
    assert rig.total("refused_spans") == 400


@pytest.mark.parametrize("protocol", ["json", "grpc"])
def test_tokens(peer: Path, make_rig: Callable[..., Rig], protocol: str) -> None:
    rig = make_rig(tokens=(f"{TOKEN}:node",))
    send(peer, rig, protocol, 10, "gzip", TOKEN)
    assert {span.project for span in rig.buffer.spans} == {"node"}
    said = send(peer, rig, protocol, 10, "gzip", "wrong-token-0123456789")
    assert "none of those that may send here" in said or "401" in said
    assert len(rig.buffer.spans) == 10
