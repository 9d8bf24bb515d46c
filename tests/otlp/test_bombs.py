"""Small bodies that would become large: refused within a memory that parsing them breaks.

Each is read in a process of its own that may have so much memory and no more.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from afterglow.otlp.splice import field

_BODY_BYTES = 2 << 20
_ALLOWED = 16 << 20  # what 2 MiB may take at most, read or refused

_CHILD = """
import resource, sys
from afterglow.config import OtlpConfig
from afterglow.errors import OtlpLimitError
from afterglow.otlp.request import OtlpRules, read_request

json = sys.argv[1] == "json"
rules = OtlpRules.of(OtlpConfig(max_json_nodes=100_000))
small = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}'
if not json:
    small = bytes.fromhex("0a 04 12 02 12 00")
read_request(small, json=json, project="p", rules=rules)
body = sys.stdin.buffer.read()
with open("/proc/self/statm") as pages:
    used = int(pages.read().split()[0]) * resource.getpagesize()
most = used + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    print("taken", len(read_request(body, json=json, project="p", rules=rules).spans))
except OtlpLimitError as error:
    print("refused", error)
"""


def spans(inner: bytes) -> bytes:
    """A request with one span."""
    return field(0x0A, field(0x12, field(0x12, inner)))


def json_span(inner: str) -> str:
    return '{"resourceSpans":[{"scopeSpans":[{"spans":[' + inner + "]}]}]}"


def many(text: str) -> str:
    return ",".join([text] * (_BODY_BYTES // (len(text) + 1)))


PROTOBUF = {
    "spans": field(0x0A, field(0x12, b"\x12\0" * (_BODY_BYTES // 2))),
    "scopes": field(0x0A, b"\x12\0" * (_BODY_BYTES // 2)),
    "resources": b"\x0a\0" * (_BODY_BYTES // 2),
    "unknown fields": b"\x78\0" * (_BODY_BYTES // 2),
    "events": spans(b"\x5a\0" * (_BODY_BYTES // 2)),
    "links": spans(b"\x6a\0" * (_BODY_BYTES // 2)),
    "attributes": spans(b"\x4a\0" * (_BODY_BYTES // 2)),
    "values": spans(
        field(0x4A, field(0x12, field(0x2A, b"\x0a\0" * (_BODY_BYTES // 2))))
    ),
    "values in several spans": field(
        0x0A,
        field(0x12, field(0x12, field(0x4A, field(0x12, field(0x2A, b"\x0a\0" * 20_000)))) * 120),
    ),
    "attributes of a resource": field(
        0x0A, field(0x0A, b"\x0a\0" * (_BODY_BYTES // 2)) + field(0x12, field(0x12, b""))
    ),
    "attributes of a scope": field(
        0x0A, field(0x12, field(0x0A, b"\x1a\0" * (_BODY_BYTES // 2)) + b"\x12\0")
    ),
    "a large resource with each span": field(
        0x0A,
        field(0x0A, field(0x0A, field(0x0A, b"k" * (1 << 20)))) + field(0x12, b"\x12\0" * 50_000),
    ),
}  # fmt: skip
JSON = {
    "spans": json_span(many("{}")),
    "scopes": '{"resourceSpans":[{"scopeSpans":[' + many("{}") + "]}]}",
    "resources": '{"resourceSpans":[' + many("{}") + "]}",
    "nulls": json_span(
        '{"attributes":[{"key":"k","value":{"arrayValue":{"values":[' + many("null") + "]}}}]}"
    ),
    "attributes": json_span('{"attributes":[' + many("{}") + "]}"),
    "events": json_span('{"events":[' + many("{}") + "]}"),
}


def answer(body: bytes, kind: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", _CHILD, kind, str(_ALLOWED)],
        input=body,
        capture_output=True,
        check=False,
    )
    return (found.stdout + found.stderr[-500:]).decode()


@pytest.mark.parametrize("bomb", PROTOBUF)
def test_protobuf_that_would_become_large_is_refused(bomb: str) -> None:
    assert answer(PROTOBUF[bomb], "protobuf").startswith("refused")


@pytest.mark.parametrize("bomb", JSON)
def test_json_that_would_become_large_is_refused(bomb: str) -> None:
    assert answer(JSON[bomb].encode(), "json").startswith("refused")
