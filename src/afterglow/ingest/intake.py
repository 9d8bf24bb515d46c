"""The one door behind every face: bytes of OTLP in, spans safe with the buffer, or a refusal.

A face (HTTP, gRPC, Kafka) knows its protocol and asks here. What is told to a sender is what the
buffer said: only what `add` accepted is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from afterglow.clock import Clock
from afterglow.config.otlp import OtlpConfig
from afterglow.counts import Counts
from afterglow.errors import MalformedOtlpError, OtlpError, OtlpLimitError
from afterglow.model.clean import safe_str
from afterglow.model.segment import AddResult, BufferedSpan
from afterglow.otlp.request import OtlpRequest, OtlpRules, read_request
from afterglow.ports import SegmentBuffer

__all__ = ["Body", "Face", "Intake", "Outcome", "RefusedBy", "Taken"]

Face = Literal["http", "grpc", "kafka", "journal"]

#: The label `outcome` of the counter `requests`.
Outcome = Literal[
    "accepted",  # all of it
    "partial",  # but for spans that nobody can keep
    "refused",  # not now: it is to be sent again
    "malformed",  # it is no OTLP, or no request that we understand
    "too_large",
    "unauthorized",
    "timeout",  # the body did not come in time, or the sender went away
    "failed",  # a fault of ours
]

#: The label `reason` of the counter `refused_spans`: the buffer would not (it is full, or behind),
#: or could not (a fault); or we are stopping.
RefusedBy = Literal["buffer", "failed", "stopping"]

_RETRY_AFTER_S: Final = 1.0
#: A repeat of what is safe already is no loss that a sender should hear of.
_SAFE_DROPS: Final = frozenset({"duplicate"})


class Body(msgspec.Struct, frozen=True):
    """An ExportTraceServiceRequest, unpacked; `received_bytes` is what came, if not this."""

    body: bytes
    json: bool
    project: str
    received_bytes: int | None = None


class Taken(msgspec.Struct, frozen=True):
    """What became of one request; accepted + dropped + refused = its spans.

    Where `refused` is not 0 the sender is to send the same again, whole, after `retry_after_s`:
    repeats of what was accepted do no harm. `dropped` never will be taken, by reason.
    """

    accepted: int
    dropped: Mapping[str, int] = {}
    refused: int = 0
    reason: str | None = None
    retry_after_s: float = 0.0
    refused_by: RefusedBy = "buffer"

    @property
    def rejected(self) -> int:
        """Spans that a partial success tells the sender of."""
        return sum(n for reason, n in self.dropped.items() if reason not in _SAFE_DROPS)

    @property
    def rejected_why(self) -> str:
        """The same in words: `3 invalid_id, 1 too_large`; empty if there are none."""
        return ", ".join(
            f"{n} {reason}"
            for reason, n in sorted(self.dropped.items())
            if reason not in _SAFE_DROPS
        )


class Intake:
    """Takes requests into the buffer, and counts them; any number of threads may call it.

    `on_accepted` is given the spans of each request that the buffer took as a whole, in the
    thread that brought it, before its sender hears of it. What it raises is reported and goes no
    further: the spans are safe by then. `report` gets what goes wrong here, a line each time.
    """

    def __init__(
        self,
        buffer: SegmentBuffer,
        rules: OtlpRules,
        counts: Counts,
        *,
        clock: Clock,
        on_accepted: Callable[[list[BufferedSpan]], None] | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._buffer = buffer
        self._rules = rules
        self._clock = clock
        self._on_accepted = on_accepted
        self._report = report
        self._closed: str | None = None
        #: Faces count here, too, what never comes as far as `take`.
        self.counts = counts

    @property
    def limits(self) -> OtlpConfig:
        """How large bodies may be: faces hold to it while they read."""
        return self._rules.config

    @property
    def closed(self) -> str | None:
        """Why everything is refused from now on; None while it is not."""
        return self._closed

    def close_gate(self, reason: str) -> None:
        """Refuse everything from now on, as a value. Calls that are inside finish."""
        self._closed = reason

    def take(
        self,
        body: bytes,
        *,
        json: bool,
        project: str,
        face: Face,
        received_bytes: int | None = None,
    ) -> Taken:
        """Decode a body (an ExportTraceServiceRequest, unpacked), and add its spans.

        `received_bytes` is what came, where that was compressed. Blocks for as long as the buffer
        does. Raises OtlpError, with nothing taken, for a body
        that cannot be: counted as malformed or too_large.
        """
        (taken,) = self.take_many([Body(body, json, project, received_bytes)], face=face)
        if isinstance(taken, OtlpError):
            raise taken
        return taken

    def take_many(self, bodies: Sequence[Body], *, face: Face) -> list[Taken | OtlpError]:
        """The same for many requests with one call of the buffer, which costs as much as for one.

        What became of each, in their order. Each is decoded alone: one that cannot be is an error
        in its place, and the others are taken. These share one Taken, which is of all their spans:
        who sees it refused sends all of them again.
        """
        read = [self._read(body, face) for body in bodies]
        requests = [one for one in read if isinstance(one, OtlpRequest)]
        spans = [span for request in requests for span in request.spans]
        taken = self._add(spans)
        self._count_spans(face, requests, len(spans), taken)
        if self._on_accepted is not None and taken.accepted == len(spans) > 0:
            self._show(spans)
        return [one if isinstance(one, OtlpError) else taken for one in read]

    def count(self, face: Face, outcome: Outcome) -> None:
        """Count one request of a face."""
        self.counts.add("requests", face=face, outcome=outcome)

    def _read(self, one: Body, face: Face) -> OtlpRequest | OtlpError:
        came = len(one.body) if one.received_bytes is None else one.received_bytes
        self.counts.add("received_bytes", came, face=face)
        try:
            return read_request(one.body, json=one.json, project=one.project, rules=self._rules)
        except MalformedOtlpError as error:
            self.count(face, "malformed")
            return error
        except OtlpLimitError as error:
            self.count(face, "too_large")
            return error

    def _add(self, spans: list[BufferedSpan]) -> Taken:
        if not spans:
            return Taken(accepted=0)
        if self._closed is not None:
            return _refusal(len(spans), self._closed, "stopping")
        try:
            added: AddResult = self._buffer.add(spans, self._clock.wall_ns())
        except Exception as error:  # noqa: BLE001  whatever it is, the sender still has the spans
            self._report(f"the buffer failed: {type(error).__name__}: {safe_str(error)}")
            return _refusal(len(spans), "the buffer failed", "failed")
        return Taken(
            accepted=added.accepted,
            dropped=added.dropped,
            refused=added.refused,
            reason=added.reason,
            retry_after_s=added.retry_after_s,
        )

    def _count_spans(
        self, face: Face, requests: list[OtlpRequest], n_spans: int, taken: Taken
    ) -> None:
        add = self.counts.add
        add("received_spans", n_spans, face=face)
        for request in requests:
            for kind, n in request.changed.items():
                if n:
                    add("changed_spans", n, kind=kind)
        add("accepted_spans", taken.accepted, face=face)
        for reason, n in taken.dropped.items():
            add("dropped_spans", n, face=face, reason=reason)
        if taken.refused:
            add("refused_spans", taken.refused, face=face, reason=taken.refused_by)
        partial: Outcome = "partial" if taken.rejected else "accepted"
        for _ in requests:
            self.count(face, "refused" if taken.refused else partial)

    def _show(self, spans: list[BufferedSpan]) -> None:
        assert self._on_accepted is not None
        try:
            self._on_accepted(spans)
        except Exception as error:  # noqa: BLE001  the spans are safe with the buffer
            self._report(
                f"accepted spans cannot be shown yet: {type(error).__name__}: {safe_str(error)}"
            )


def _refusal(n_spans: int, reason: str, by: RefusedBy) -> Taken:
    return Taken(
        accepted=0,
        refused=n_spans,
        reason=reason,
        retry_after_s=_RETRY_AFTER_S,
        refused_by=by,
    )
