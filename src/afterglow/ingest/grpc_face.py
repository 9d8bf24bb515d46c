"""OTLP/gRPC as a part of a service: gRPC's server, started and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from afterglow.clock import Clock, SystemClock
from afterglow.config.ingest import IngestConfig
from afterglow.errors import MissingExtraError, SettingError
from afterglow.ingest.access import Access, Address, address_of, check_open
from afterglow.ingest.intake import Intake
from afterglow.ingest.listening import listening
from afterglow.ingest.tls import tls_files

try:
    import grpc  # type: ignore[import-untyped]

    from afterglow.ingest.grpc_service import ExportCalls
except ImportError as _error:
    if isinstance(_error, MissingExtraError):
        raise
    raise MissingExtraError("OTLP over gRPC", "server") from None

__all__ = ["GrpcFace"]

#: Threads beyond `max_calls`, which tell further calls to come again later.
_SPARE: Final = 8
_LOOK_S: Final = 0.5
_ANSWERS_S: Final = 1.0


class GrpcFace:
    """Listens from `start` to `stop`, in threads of its own.

    Raises SettingError where `grpc` is off or no address, is open to everybody, or its TLS files
    cannot be used; `start` raises it where the address cannot be listened at.
    """

    def __init__(
        self,
        intake: Intake,
        access: Access,
        config: IngestConfig,
        *,
        report: Callable[[str], None] = lambda _line: None,
        clock: Clock | None = None,
    ) -> None:
        address = address_of("grpc", config.grpc)
        if address is None:
            raise SettingError("grpc=off: there is nothing to listen at")
        check_open("grpc", address, config, access)
        self._address = address
        self._clock = clock or SystemClock()
        self._tls = tls_files(config)
        self._pool = ThreadPoolExecutor(config.max_calls + _SPARE, "afterglow-grpc")
        self.calls = ExportCalls(intake, access, config, clock=self._clock, report=report)
        self._server = grpc.server(
            self._pool, options=_options(config, intake.limits.max_body_bytes)
        )
        self._server.add_generic_rpc_handlers((self.calls.handlers(),))
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def address(self) -> Address:
        """Where it listens; the port that was found, once it was started with 0."""
        return self._address

    def start(self) -> None:
        """Listen. Returns when calls are answered."""
        if self._address.port:
            listening(self._address).close()  # gRPC does not say why it cannot
        try:
            port = self._listen()
        except RuntimeError:
            raise SettingError(f"cannot listen at {self._address}: gRPC does not say why") from None
        self._address = Address(self._address.host, port)
        self._server.start()
        self._watch = threading.Thread(
            target=self._look_for_late, name="afterglow-grpc-late", daemon=True
        )
        self._watch.start()

    def stop(self, grace_s: float) -> None:
        """Refuse what is new (UNAVAILABLE), let what is in hand finish within `grace_s`, close."""
        self.calls.closed = "the collector is stopping"
        # gRPC's own grace would cancel calls that come meanwhile, and not say when to come again.
        is_idle = self.calls.wait_until_idle(grace_s)
        # The last answers are on their way then.
        self._server.stop(_ANSWERS_S if is_idle else None).wait()
        self._stopping.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _listen(self) -> int:
        port: int
        if self._tls is None:
            port = self._server.add_insecure_port(str(self._address))
        else:
            credentials = grpc.ssl_server_credentials(
                [(self._tls.key, self._tls.cert)],
                root_certificates=self._tls.client_ca,
                require_client_auth=self._tls.client_ca is not None,
            )
            port = self._server.add_secure_port(str(self._address), credentials)
        return port

    def _look_for_late(self) -> None:
        while not self._clock.wait(self._stopping, _LOOK_S):
            self.calls.give_up_late()


def _options(config: IngestConfig, max_body_bytes: int) -> list[tuple[str, Any]]:
    """Names are gRPC's (grpc/impl/channel_arg_names.h)."""
    return [
        # Two collectors at one port would share its senders by chance.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_body_bytes),
        # It unpacks a message as a whole, however much that is (grpc_service.py does it bounded).
        ("grpc.per_message_decompression", 0),
        ("grpc.max_metadata_size", config.max_header_bytes),
        ("grpc.absolute_max_metadata_size", config.max_header_bytes),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", config.max_calls),
        ("grpc.server_handshake_timeout_ms", round(config.header_timeout_s * 1_000)),
        # Peers that have vanished are found out, and clients may ask whether we have.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
