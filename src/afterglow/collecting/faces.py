"""The one Intake and the faces before it: HTTP, gRPC, Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from afterglow.collecting.between import Between
from afterglow.collecting.health import Health
from afterglow.collecting.log import Log
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.steps import Steps
from afterglow.counts import Counts
from afterglow.errors import MissingExtraError, SettingError
from afterglow.ingest.access import Access, Address, address_of

__all__ = ["Faces", "Route"]

#: Asked in a thread at each request: status, content type, body.
Route = Callable[[], tuple[int, str, bytes]]

_OFF: Final = "off"
#: Of the time for stopping, so much is for requests that are in hand.
_FACES_SHARE: Final = 0.25


class Faces:
    """Made when the buffer is there; `start` opens one after the other.

    Raises SettingError for addresses, tokens and TLS files that cannot be used, MissingExtraError.
    """

    def __init__(
        self,
        settings: ServeSettings,
        between: Between,
        counts: Counts,
        log: Log,
        routes: dict[str, Route],
    ) -> None:
        try:
            from afterglow.ingest.intake import Intake
            from afterglow.otlp.request import OtlpRules
        except ImportError as error:
            if isinstance(error, MissingExtraError):
                raise
            raise MissingExtraError("afterglow serve", "server") from None
        self._settings = settings
        self._log = log
        self._routes = routes
        self._access = Access(settings.ingest)
        self.http: Address | None = None
        self.grpc: Address | None = None
        self._intake = Intake(
            between.buffer,
            OtlpRules.of(settings.otlp),
            counts,
            clock=between.clock,
            on_accepted=between.on_accepted,
            report=log.report,
        )

    def start(self, steps: Steps, health: Health) -> None:
        """Open the faces. They stop in the mirror; before all of them the gate is shut."""
        ingest = self._settings.ingest
        if address_of("http", ingest.http) is not None:
            self._start_http(steps)
        if address_of("grpc", ingest.grpc) is not None:
            self._start_grpc(steps)
        if self._settings.kafka_in.bootstrap_servers:
            self._start_kafka(steps, health)
        elif self.http is None and self.grpc is None:
            raise SettingError("nothing would come in: http, grpc and kafka_in are all off")
        health.ready("intake", lambda: self._intake.closed)
        steps.add("intake", lambda _left_s: self._intake.close_gate("the collector is stopping"))

    def _start_http(self, steps: Steps) -> None:
        from afterglow.ingest.http_face import HttpFace

        face = HttpFace(
            self._intake, self._access, self._settings.ingest,
            routes=self._routes, report=self._log.report,
        )  # fmt: skip
        face.start()
        steps.add("OTLP/HTTP", lambda left_s: face.stop(left_s() * _FACES_SHARE))
        self.http = face.address

    def _start_grpc(self, steps: Steps) -> None:
        from afterglow.ingest.grpc_face import GrpcFace

        face = GrpcFace(self._intake, self._access, self._settings.ingest, report=self._log.report)
        face.start()
        steps.add("OTLP/gRPC", lambda left_s: face.stop(left_s() * _FACES_SHARE))
        self.grpc = face.address

    def _start_kafka(self, steps: Steps, health: Health) -> None:
        from afterglow.ingest.kafka import KafkaFace

        face = KafkaFace(self._intake, self._settings.kafka_in, report=self._log.report)
        face.start()
        health.alive("Kafka", lambda: None if face.is_alive else "its thread has ended")
        steps.add("Kafka", lambda left_s: face.stop(left_s() * _FACES_SHARE))

    def greeting(self) -> Iterator[str]:
        """Where it listens, and what a program must set."""
        scheme = "https" if self._settings.ingest.tls_cert else "http"
        if self.http is not None:
            yield f"OTLP/HTTP at {scheme}://{self.http}/v1/traces"
        if self.grpc is not None:
            yield f"OTLP/gRPC at {self.grpc}"
        if (kafka := self._settings.kafka_in).bootstrap_servers:
            yield f"OTLP from Kafka at {kafka.bootstrap_servers}, {kafka.topic} as {kafka.group}"
        if self.http is not None:
            yield (
                f"a program sends here with OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{self.http} "
                "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
            )
        elif self.grpc is not None:
            yield (
                f"a program sends here with OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{self.grpc} "
                "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
            )
