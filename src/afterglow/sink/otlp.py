"""Segments to another OTLP backend: requests are spliced of payloads, which are OTLP already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from afterglow.clock import Clock, SystemClock
from afterglow.config import SendConfig, checked
from afterglow.counts import Counts
from afterglow.errors import MissingExtraError, SinkError, SinkUnavailableError
from afterglow.model.segment import SegmentPart
from afterglow.sink.otlp_address import address_of, headers_of
from afterglow.sink.otlp_answer import Answer
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["OtlpPost", "OtlpSink", "cut", "open_post"]

#: Before each payload in a request: a tag and its length.
_OVERHEAD_BYTES: Final = 6
#: Of pages that came back half sent, so many message ids are remembered.
_MOST_HALF: Final = 100_000


class Post(Protocol):
    """One way to send a body (HTTP, gRPC)."""

    def post(self, body: bytes, headers: dict[str, str]) -> Answer: ...

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


def open_post(config: SendConfig, clock: Clock) -> Post:
    """The way that the settings name; nothing is connected yet. Raises SettingError."""
    address = address_of(config)
    if address.grpc:
        from afterglow.sink.otlp_grpc import GrpcCall

        return GrpcCall(address, config)
    from afterglow.sink.otlp_http import HttpPost

    return HttpPost(address, config, clock)


class OtlpPost:
    """Sends payloads as requests; says of each what became of it, as ports.SegmentSink has it.

    One thread at a time. `rejected_spans` counts what the other side refused of requests that it
    took (partial success).
    """

    def __init__(
        self,
        config: SendConfig,
        *,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        try:
            from afterglow.otlp.payload import to_request, to_request_json
        except ImportError as error:
            if (error.name or "").split(".")[0] not in ("opentelemetry", "google"):
                raise
            raise MissingExtraError("sending OTLP", "otlp") from None
        checked(config)
        clock = clock or SystemClock()
        self.shown = address_of(config).shown
        self._headers = headers_of(config)
        self._project_header = config.project_header.lower()
        self._encode: Callable[[Iterable[bytes]], bytes] = (
            to_request_json if config.protocol == "http/json" else to_request
        )
        self._post = open_post(config, clock)
        self._complaints = Complaints(report, clock)
        self.rejected_spans = 0

    def send(self, payloads: Sequence[bytes], project: str) -> int:
        """Send them; how many were rejected. A request that is too large is sent in halves.

        Raises SinkUnavailableError where the same may succeed later, SinkError where it never
        will; of halves the first may have been taken then.
        """
        headers = dict(self._headers)
        if self._project_header:
            headers[self._project_header] = project
        answer = self._post.post(self._encode(payloads), headers)
        match answer.outcome:
            case "taken":
                return self._taken(answer, len(payloads))
            case "later":
                raise SinkUnavailableError(
                    f"{self.shown}: {answer.why}", retry_after_s=answer.retry_after_s
                )
            case "too_large" if len(payloads) > 1:
                middle = len(payloads) // 2
                first = self.send(payloads[:middle], project)
                return first + self.send(payloads[middle:], project)
        raise SinkError(f"{self.shown}: {answer.why}")

    def close(self) -> None:
        """Close the connection; sending opens another."""
        self._post.close()

    def after_fork(self) -> None:
        """In a child: what is open is the parent's."""
        self._post.after_fork()

    def _taken(self, answer: Answer, spans: int) -> int:
        rejected = min(answer.rejected, spans)
        self.rejected_spans += rejected
        if rejected:
            why = f": {answer.why}" if answer.why else ""
            self._complaints.say("rejected", f"{self.shown} rejected {rejected:,} spans{why}")
        elif answer.why:
            self._complaints.say("warned", f"{self.shown} took spans and says: {answer.why}")
        return rejected


class _Request(NamedTuple):
    project: str
    payloads: list[bytes]
    #: The parts that are whole once this request was sent.
    message_ids: list[str]


class OtlpSink:
    """A ports.SegmentSink that sends pages to an OTLP backend, by HTTP or gRPC.

    When `write` returns, the other side has answered that it has the spans. OTLP knows no message
    ids, so what is given again is sent again; only of a page that went half through, this object
    does not send again what was answered. `sink/outgoing.py` before it knows repeats.
    """

    def __init__(
        self,
        config: SendConfig,
        *,
        name: str = "otlp",
        counts: Counts | None = None,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self.name = name
        self._otlp = OtlpPost(config, clock=clock, report=report)
        self._counts = counts or Counts()
        self._max_bytes = config.max_request_bytes
        self._apart = bool(config.project_header)
        #: Message ids of pages that `write` raised for, which were answered all the same.
        self._half: dict[str, None] = {}

    @property
    def rejected_spans(self) -> int:
        """Spans that the other side refused one by one, since this object was made."""
        return self._otlp.rejected_spans

    def write(self, parts: Sequence[SegmentPart]) -> None:
        """Send them. Raises SinkUnavailableError and SinkError, as ports.SegmentSink says."""
        half, given = self._half, parts
        if half:
            parts = [part for part in parts if part.message_id not in half]
        sent: list[str] = []
        try:
            for request in _requests(parts, self._max_bytes, apart=self._apart):
                rejected = self._otlp.send(request.payloads, request.project)
                sent += request.message_ids
                self._count(len(request.payloads), rejected)
        except SinkError:
            half.update(dict.fromkeys(sent))
            while len(half) > _MOST_HALF:
                del half[next(iter(half))]
            raise
        for part in given if half else ():
            half.pop(part.message_id, None)

    def close(self) -> None:
        self._otlp.close()

    def _count(self, spans: int, rejected: int) -> None:
        self._counts.add("sink_spans", spans - rejected, sink=self.name)
        if rejected:
            self._counts.add("sink_dropped_spans", rejected, sink=self.name, reason="sink_refused")


def cut(payloads: Sequence[bytes], max_bytes: int) -> Iterator[Sequence[bytes]]:
    """Runs of payloads of at most so many bytes as a request; a larger payload stands alone."""
    start = size = 0
    for at, payload in enumerate(payloads):
        more = len(payload) + _OVERHEAD_BYTES
        if size + more > max_bytes and at > start:
            yield payloads[start:at]
            start, size = at, 0
        size += more
    if start < len(payloads):
        yield payloads[start:]


def _requests(parts: Sequence[SegmentPart], max_bytes: int, *, apart: bool) -> Iterator[_Request]:
    """The requests of a page: small parts share one, large ones are cut; `apart`: by project."""
    if apart:
        parts = sorted(parts, key=lambda part: part.project)  # stable: parts stay in order
    request, size = _Request("", [], []), 0
    for part in parts:
        part_bytes = sum(map(len, part.payloads)) + _OVERHEAD_BYTES * len(part.payloads)
        strange = apart and part.project != request.project
        if request.payloads and (strange or size + part_bytes > max_bytes):
            yield request
            request, size = _Request("", [], []), 0
        if not request.payloads:
            request = _Request(part.project, [], request.message_ids)
        if part_bytes <= max_bytes:
            request.payloads.extend(part.payloads)
            request.message_ids.append(part.message_id)
            size += part_bytes
            continue
        *runs, last = cut(part.payloads, max_bytes)
        for run in runs:
            yield _Request(part.project, list(run), [])
        yield _Request(part.project, list(last), [part.message_id])
        request, size = _Request("", [], []), 0
    if request.payloads:
        yield request
