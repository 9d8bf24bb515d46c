"""The recorder's way to an OTLP backend: programs send what they record instead of writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afterglow.clock import Clock, SystemClock
from afterglow.config import SendConfig, load
from afterglow.errors import SinkError, SinkUnavailableError, UnencodableError
from afterglow.model.run import Process
from afterglow.ports import SpanBatch
from afterglow.sink.otlp import OtlpPost, cut
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["OtlpSpans", "spans_to"]


class OtlpSpans:
    """A ports.SpanSink that sends batches by OTLP; the writer's thread alone calls it.

    When `write` returns, the other side has answered that it has the spans. While that is away,
    spans wait in the bounded queue of the program, and nowhere else; what does not fit is counted.
    Only finished spans are sent: OTLP has no open ones, and no place for counted calls.

    What the other side refuses for ever, of a batch that it takes for the rest, is in `counters` as
    `sink_refused`: the writer moves it from written to dropped.
    """

    def __init__(
        self,
        config: SendConfig,
        *,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._clock = clock or SystemClock()
        self._otlp = OtlpPost(config, clock=self._clock, report=report)
        self._max_bytes = config.max_request_bytes
        self._complaints = Complaints(report, self._clock)
        self._not_before_ns = 0
        #: The spans of a batch that came half through, and how many of them are settled.
        self._half: tuple[list[Any], int] | None = None
        self._counters = {"sent_spans": 0, "sent_requests": 0, "sink_refused": 0}

    def write(self, batch: SpanBatch) -> None:
        if not len(batch):
            return
        if self._clock.monotonic_ns() < self._not_before_ns:
            raise SinkUnavailableError(f"{self._otlp.shown} asked not to be sent to for a while")
        payloads = _payloads(batch)
        settled = 0
        if self._half is not None and self._half[0] is batch.flat:
            settled = self._half[1]
        self._half = None
        for run in cut(payloads[settled:], self._max_bytes):
            try:
                rejected = self._otlp.send(run, "")
            except SinkUnavailableError as error:
                self._half = batch.flat, settled
                wait_ns = round(error.retry_after_s * 1e9)
                self._not_before_ns = self._clock.monotonic_ns() + wait_ns
                raise
            except SinkError as error:
                rejected = len(run)
                self._complaints.say("refused", f"{rejected:,} spans are refused for ever: {error}")
            settled += len(run)
            self._counters["sent_requests"] += 1
            self._counters["sent_spans"] += len(run) - rejected
            self._counters["sink_refused"] += rejected

    def after_fork(self) -> None:
        """The connection is the parent's, and so is what it sent."""
        self._otlp.after_fork()
        self._half = None
        self._not_before_ns = 0
        self._counters = dict.fromkeys(self._counters, 0)

    def close(self) -> None:
        self._otlp.close()

    def counters(self) -> Mapping[str, Any]:
        """Spans that were taken and refused since this process began, and requests."""
        return self._counters


def _payloads(batch: SpanBatch) -> list[bytes]:
    """Raises UnencodableError for a value that protobuf cannot carry."""
    from afterglow.otlp.payload import payload_of

    resource = resource_of(batch.process)
    try:
        return [payload_of(span, resource) for span in batch.spans()]
    except (ValueError, TypeError, OverflowError) as error:
        raise UnencodableError(f"{type(error).__name__}: {error}") from error


def resource_of(process: Process) -> dict[str, Any]:
    """OpenTelemetry's resource attributes of a process; what the program says goes first."""
    return {"host.name": process.host, "process.pid": process.pid} | process.resource


def spans_to(
    url: str,
    settings: Mapping[str, Any],
    clock: Clock,
    report: Callable[[str], None] | None = None,
) -> OtlpSpans:
    """The sink of a tracer that sends to `url`; the settings of [send] are `send_...` here.

    Raises SettingError, MissingExtraError.
    """
    own = {name.removeprefix("send_"): value for name, value in settings.items()}
    config = load(SendConfig, {**own, "url": url})
    return OtlpSpans(config, clock=clock, report=report or to_stderr)
