"""OTLP by gRPC, with bytes that are ready-made: grpcio carries them, nothing encodes them again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from afterglow.config import SendConfig
from afterglow.errors import MissingExtraError, SettingError
from afterglow.sink.otlp_address import Address
from afterglow.sink.otlp_answer import Answer, partial_of_protobuf, retry_info_s, short_text
from afterglow.version import VERSION

__all__ = ["GrpcCall"]

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_MOST_ANSWER_BYTES: Final = 64 * 1024
#: The codes that OpenTelemetry's specification has sent again.
_LATER: Final = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
#: Where it goes or who we are is wrong, which somebody will put right.
_MISDIRECTED: Final = frozenset(("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"))


class GrpcCall:
    """Sends bodies by one channel; one thread at a time. Raises nothing for what a network does."""

    def __init__(self, address: Address, config: SendConfig) -> None:
        try:
            self._grpc: Any = import_module("grpc")
        except ImportError:
            raise MissingExtraError("sending OTLP by gRPC", "server") from None
        if config.compression == "zstd":
            raise SettingError("compression=zstd of [send] is not for gRPC: gzip or none")
        self._address = address
        self._timeout_s = config.timeout_s
        self._compression = getattr(
            self._grpc.Compression, "Gzip" if config.compression == "gzip" else "NoCompression"
        )
        self._authorities: bytes | None = None
        if address.tls and config.ca_file:
            try:
                self._authorities = Path(config.ca_file).read_bytes()
            except OSError as error:
                raise SettingError(
                    f"ca_file={config.ca_file!r} of [send] cannot be used: {error.strerror}"
                ) from None
        self._channel: Any = None
        self._call: Any = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one body, and say what became of it."""
        call = self._call or self._connected()
        try:
            answer = call(
                body,
                timeout=self._timeout_s,
                metadata=tuple(headers.items()),
                compression=self._compression,
            )
        except self._grpc.RpcError as error:
            return self._failed(error)
        partial = partial_of_protobuf(answer)
        return Answer("taken", partial.message, 0.0, partial.rejected)

    def close(self) -> None:
        """Close the channel; the next request opens another."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            channel.close()

    def after_fork(self) -> None:
        """In a child: the channel is the parent's, with its threads, which are not here."""
        self._left, self._channel, self._call = self._channel, None, None

    def _connected(self) -> Any:
        grpc, address = self._grpc, self._address
        host = f"[{address.host}]" if ":" in address.host else address.host
        options = (
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", _MOST_ANSWER_BYTES),
            ("grpc.enable_retries", 0),  # ours to decide
            # Ours to wait, too: a channel that rests would refuse what we try in time.
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.primary_user_agent", f"afterglow/{VERSION}"),
        )
        target = f"{host}:{address.port}"
        if address.tls:
            credentials = grpc.ssl_channel_credentials(self._authorities)
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._call = self._channel.unary_unary(_METHOD)
        return self._call

    def _failed(self, error: Any) -> Answer:
        code = error.code().name
        details = short_text((error.details() or "").encode(errors="replace"))
        why = f"gRPC {code}: {details}" if details else f"gRPC {code}"
        wait_s = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin" and isinstance(value, bytes):
                wait_s = retry_info_s(value)
        if code in _LATER:
            return Answer("later", why, wait_s or 0.0)
        if code in _MISDIRECTED:
            return Answer("later", f"{why} (are URL and headers of [send] right?)")
        if code == "RESOURCE_EXHAUSTED":  # later, if they say when; otherwise it is too large
            return Answer("too_large", why) if wait_s is None else Answer("later", why, wait_s)
        return Answer("refused", why)
