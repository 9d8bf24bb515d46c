"""Load: OTLP requests that are encoded before the clock starts, sent over connections that stay.

    python -m benchmarks.collect.load URL[,URL...] --spans N [--rate N] [--senders N]

Each trace has so many spans of one tree; spans come in any order, and neighbours in a trace go to
different collectors. Everything follows from the seed, so whoever checks knows what was sent.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_NS = 1_000_000_000
_SERVICES = ("web", "orders", "stock", "payments", "mail")


@dataclass(frozen=True)
class Shape:
    """What is sent: so many spans, in traces and requests of such sizes."""

    spans: int
    trace_spans: int = 20
    request_spans: int = 500
    #: Traces that are under way at a time: the spans of so many are mixed.
    mixed_traces: int = 500
    attributes: int = 5
    seed: int = 1


def trace_id(shape: Shape, number: int, turn: int = 0) -> bytes:
    """The turn, then what the seed says."""
    return turn.to_bytes(4) + random.Random(f"{shape.seed}/{number}").randbytes(12)


@lru_cache(maxsize=2_000)
def span_ids(shape: Shape, number: int) -> list[bytes]:
    """The ids of a trace's spans: the root first, the parent of span n is (n - 1) // 3."""
    chance = random.Random(f"{shape.seed}/{number}/spans")
    return [chance.randbytes(8) for _ in range(shape.trace_spans)]


def bodies(shape: Shape, *, started_ns: int) -> Iterator[bytes]:
    """The requests, as protobuf; spans of one service of one request share a resource."""
    chance = random.Random(shape.seed)
    traces = range(0, -(-shape.spans // shape.trace_spans))
    waiting: list[tuple[int, int]] = []
    for first in range(0, len(traces), shape.mixed_traces):
        batch = traces[first : first + shape.mixed_traces]
        waiting = [
            (trace, at)
            for trace in batch
            for at in range(shape.trace_spans)
            if trace * shape.trace_spans + at < shape.spans
        ]
        chance.shuffle(waiting)
        for start in range(0, len(waiting), shape.request_spans):
            yield _request(shape, waiting[start : start + shape.request_spans], started_ns)


class Turns:
    """The same requests again and again, each turn with traces of its own: load for a long time.

    Encoding costs as much as collecting; putting another number before each trace id does not.
    """

    def __init__(self, requests: Sequence[bytes], shape: Shape) -> None:
        self._requests = requests
        ids = {trace_id(shape, n) for n in range(-(-shape.spans // shape.trace_spans))}
        self._places = [_places(body, ids) for body in requests]

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, number: int) -> bytes:
        turn, at = divmod(number, len(self._requests))
        body = bytearray(self._requests[at])
        prefix = turn.to_bytes(4)
        for place in self._places[at]:
            body[place : place + 4] = prefix
        return bytes(body)


def _places(body: bytes, ids: set[bytes]) -> list[int]:
    """Where trace ids begin: behind the tag and the length of the first field of a span."""
    found = []
    at = body.find(b"\x0a\x10")
    while at >= 0:
        if body[at + 2 : at + 18] in ids:
            found.append(at + 2)
        at = body.find(b"\x0a\x10", at + 1)
    return found


def _request(shape: Shape, spans: Sequence[tuple[int, int]], started_ns: int) -> bytes:
    request = ExportTraceServiceRequest()
    scopes = {}
    for trace, at in spans:
        service = _SERVICES[(trace + at) % len(_SERVICES)]
        if service not in scopes:
            found = request.resource_spans.add()
            for key, value in (("service.name", service), ("host.name", "bench"),
                               ("telemetry.sdk.language", "python")):  # fmt: skip
                found.resource.attributes.add(key=key).value.string_value = value
            scopes[service] = found.scope_spans.add()
            scopes[service].scope.name = "benchmarks.collect"
        span = scopes[service].spans.add()
        span.trace_id = trace_id(shape, trace)
        ids = span_ids(shape, trace)
        span.span_id = ids[at]
        span.parent_span_id = ids[(at - 1) // 3] if at else b""
        span.name = f"GET /{service}/{at}"
        span.kind = 1
        span.start_time_unix_nano = started_ns + trace * 1_000_000 + at * 1_000
        span.end_time_unix_nano = span.start_time_unix_nano + 40_000 * (shape.trace_spans - at)
        for number in range(shape.attributes):
            value = span.attributes.add(key=f"app.attribute.{number}").value
            if number % 2:
                value.int_value = trace + number
            else:
                value.string_value = f"value {trace % 97} of {number}"
    return request.SerializeToString()


class Sent:
    """What the senders came to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = self.again = 0
        self.seconds = 0.0


def send(
    urls: Sequence[str],
    requests: Sequence[bytes] | Turns,
    *,
    count: int = 0,
    senders: int = 4,
    per_s: float = 0.0,
    patience_s: float = 60.0,
) -> Sent:
    """Send requests, `count` of them or all, each until somebody acknowledges it; `per_s` requests
    a second, 0: at once.

    A request that is refused, or whose collector is gone, is sent again to the next one.
    """
    sent = Sent()
    count = count or len(requests)
    turn = itertools.count()
    began = time.perf_counter()

    def work(number: int) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while (at := next(turn)) < count:
            if per_s:
                time.sleep(max(0.0, began + at / per_s - time.perf_counter()))
            until = time.perf_counter() + patience_s
            body = requests[at]
            for attempt in itertools.count():
                url = urls[(at + attempt) % len(urls)]
                wait_s = _post(connections, url, body)
                if wait_s is None:
                    break
                if time.perf_counter() > until:
                    raise SystemExit(f"{url} acknowledged nothing for {patience_s:g} s")
                with sent.lock:
                    sent.again += 1
                time.sleep(wait_s)
            with sent.lock:
                sent.requests += 1
        for connection in connections.values():
            connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.seconds = time.perf_counter() - began
    return sent


def _post(
    connections: dict[str, http.client.HTTPConnection], url: str, body: bytes
) -> float | None:
    """None: acknowledged. Else how long to wait before the next try."""
    parts = urlsplit(url)
    connection = connections.get(url)
    if connection is None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connections[url] = connection
    try:
        connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0.05
    if answer.status == 200:
        return None
    if answer.status in (429, 502, 503, 504):
        return min(float(answer.headers.get("retry-after", "1")), 1.0)
    raise SystemExit(
        f"{url} answered {answer.status}: a request was malformed, or not ours to send"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collect.load")
    parser.add_argument("urls", help="collectors, as http://host:port, separated by commas")
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--trace-spans", type=int, default=20)
    parser.add_argument("--request-spans", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.0, help="spans a second; 0: all at once")
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=1, help="so often, with other traces each")
    parser.add_argument("--wait", action="store_true", help="begin when a line comes on stdin")
    options = parser.parse_args()
    shape = Shape(
        options.spans, options.trace_spans, request_spans=options.request_spans, seed=options.seed
    )
    requests = list(bodies(shape, started_ns=time.time_ns()))
    print(json.dumps({"ready": len(requests)}), flush=True)
    if options.wait:
        sys.stdin.readline()
    sent = send(
        options.urls.split(","),
        Turns(requests, shape) if options.turns > 1 else requests,
        count=options.turns * len(requests),
        senders=options.senders,
        per_s=options.rate / shape.request_spans,
    )
    spans = options.turns * shape.spans
    print(json.dumps({"spans": spans, "seconds": sent.seconds, "again": sent.again}))


if __name__ == "__main__":
    main()
