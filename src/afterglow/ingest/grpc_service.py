"""OTLP/gRPC's one call, TraceService/Export: bytes in, bytes out, or a status.

It is served as a call that takes a stream, which is the same on the wire: only so is it known who
calls before the message is there, and a sender that does not send it can be given up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import grpc  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from afterglow.clock import Clock
from afterglow.config.ingest import IngestConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ingest.access import Access, Denial
from afterglow.ingest.intake import Intake, Outcome
from afterglow.model.clean import safe_str
from afterglow.otlp.answer import export_answer
from afterglow.otlp.body import decompress

__all__ = ["SERVICE", "ExportCalls", "encoding_of"]

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"

_Code = grpc.StatusCode
_DENIED: Final = {
    "unauthenticated": _Code.UNAUTHENTICATED,
    "forbidden": _Code.PERMISSION_DENIED,
    "bad_project": _Code.INVALID_ARGUMENT,
}


def encoding_of(message: bytes) -> str:
    """How a message is compressed; gRPC's own unpacking knows no bound, so it is switched off.

    An ExportTraceServiceRequest begins with 0x0a or is empty, and neither gzip nor zlib does.
    """
    if message[:2] == b"\x1f\x8b":
        return "gzip"
    is_zlib = len(message) > 1 and message[0] == 0x78 and int.from_bytes(message[:2]) % 31 == 0
    return "deflate" if is_zlib else "identity"


class ExportCalls:
    """Answers calls, each in a thread of gRPC's pool; `max_calls` at once, `threads` of them work.

    `give_up_late` is to be called now and then: it ends calls whose message does not come.
    """

    def __init__(
        self,
        intake: Intake,
        access: Access,
        config: IngestConfig,
        *,
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._intake = intake
        self._access = access
        self._config = config
        self._clock = clock
        self._report = report
        self._working = threading.BoundedSemaphore(config.threads)
        # The lock owns all below.
        self._lock = threading.Condition()
        self._n_calls = 0
        self._waiting_bytes = 0
        #: Calls whose message is not there yet, and since when they have waited.
        self._unread: dict[Any, int] = {}
        #: Why nothing new is taken; set by the face when it stops.
        self.closed: str | None = None

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server is to be given."""
        export = grpc.stream_unary_rpc_method_handler(self.export)
        return grpc.method_handlers_generic_handler(SERVICE, {"Export": export})

    def export(self, messages: Iterator[bytes], context: Any) -> bytes:
        """One call."""
        closed = self.closed or self._intake.closed
        with self._lock:
            if closed is None and self._n_calls >= self._config.max_calls:
                closed = "too many calls are made at once"
            self._n_calls += closed is None
        if closed is not None:
            self._intake.count("grpc", "refused")
            self._not_now(context, closed, 1.0)
        try:
            return self._export(messages, context)
        finally:
            with self._lock:
                self._n_calls -= 1
                self._lock.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no call is in hand; False where one still is after that time."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._n_calls, timeout_s)

    def give_up_late(self) -> None:
        """Cancel the calls whose message has not come within `body_timeout_s`."""
        late_ns = self._clock.monotonic_ns() - round(self._config.body_timeout_s * 1e9)
        with self._lock:
            late = [context for context, since_ns in self._unread.items() if since_ns <= late_ns]
        for context in late:
            context.cancel()

    # --- one call

    def _export(self, messages: Iterator[bytes], context: Any) -> bytes:
        project = self._project(context)
        message = self._read(messages, context)
        with self._lock:
            fits = self._waiting_bytes + len(message) <= self._config.max_waiting_bytes
            fits = fits or not self._waiting_bytes
            self._waiting_bytes += len(message)
        try:
            if not fits:
                self._intake.count("grpc", "refused")
                self._not_now(context, "too many messages wait here", 1.0)
            with self._working:
                return self._take(message, project, context)
        finally:
            with self._lock:
                self._waiting_bytes -= len(message)

    def _project(self, context: Any) -> str:
        metadata = dict(context.invocation_metadata())
        project = self._access.project_of(
            _raw(metadata.get("authorization")), _raw(metadata.get("x-afterglow-project"))
        )
        if isinstance(project, Denial):
            code = _DENIED[project.kind]
            bad = project.kind == "bad_project"
            self._end(context, code, project.message, "malformed" if bad else "unauthorized")
        return project

    def _read(self, messages: Iterator[bytes], context: Any) -> bytes:
        with self._lock:
            self._unread[context] = self._clock.monotonic_ns()
        try:
            message = next(messages, None)
        except Exception:  # noqa: BLE001  gRPC raises a bare one where the call was cut short
            message = None
        finally:
            with self._lock:
                del self._unread[context]
        if message is None:
            # The peer has gone, was given up, or its message was refused by gRPC as too large.
            self._end(context, _Code.CANCELLED, "the message did not come whole", "timeout")
        return message

    def _take(self, message: bytes, project: str, context: Any) -> bytes:
        try:
            body = self._unpacked(message)
            taken = self._intake.take(
                body, json=False, project=project, face="grpc", received_bytes=len(message)
            )
        except OtlpLimitError as error:
            self._end(context, _Code.RESOURCE_EXHAUSTED, str(error), None)
        except MalformedOtlpError as error:
            self._end(context, _Code.INVALID_ARGUMENT, str(error), None)
        except Exception as error:  # noqa: BLE001  gRPC would print a traceback, and tell the peer
            self._report(f"OTLP/gRPC failed: {type(error).__name__}: {safe_str(error)}")
            why = "a fault of the collector; its log says more"
            self._end(context, _Code.INTERNAL, why, "failed")
        if taken.refused:
            self._not_now(context, taken.reason or "not now", taken.retry_after_s)
        return export_answer(taken.rejected, taken.rejected_why, json=False)

    def _unpacked(self, message: bytes) -> bytes:
        try:
            return decompress(
                message, encoding_of(message), self._intake.limits.max_decompressed_bytes
            )
        except OtlpLimitError:
            self._intake.count("grpc", "too_large")
            raise
        except MalformedOtlpError:
            self._intake.count("grpc", "malformed")
            raise

    # --- how it ends badly

    def _end(self, context: Any, code: Any, message: str, outcome: Outcome | None) -> NoReturn:
        """End the call; `outcome` None was counted already."""
        if outcome is not None:
            self._intake.count("grpc", outcome)
        context.abort(code, message)  # raises
        raise AssertionError("abort has raised")

    def _not_now(self, context: Any, why: str, retry_after_s: float) -> NoReturn:
        """UNAVAILABLE, and when to come again: what senders repeat after."""
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(max(1_000, round(retry_after_s * 1_000)))
        status = Status(code=_Code.UNAVAILABLE.value[0], message=why)
        status.details.add().Pack(retry)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        self._end(context, _Code.UNAVAILABLE, why, None)


def _raw(value: str | bytes | None) -> bytes | None:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
