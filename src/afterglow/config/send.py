"""Sending spans to another OTLP backend: from the collector, and straight from a program."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from afterglow.config.record import RunConfig
from afterglow.config.setting import Setting, load

__all__ = ["SCHEMES", "Compression", "OnFull", "Protocol", "SendConfig", "destination", "is_url"]

Protocol = Literal["http/protobuf", "http/json", "grpc"]
Compression = Literal["gzip", "zstd", "none"]
OnFull = Literal["refuse", "drop_oldest"]

#: What a URL of ours begins with: anything else is a file.
SCHEMES = ("http://", "https://", "grpc://", "grpcs://")

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30


class SendConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sending to another OTLP backend; the disk queue is for any sink that may be away."""

    url: Annotated[
        str,
        Setting(
            "URL",
            "Where spans are sent: http://HOST:4318 or https://HOST (/v1/traces is added unless "
            "the path ends in /traces), grpc://HOST:4317 or grpcs://HOST. Empty: nowhere.",
            ("AFTERGLOW_SEND_URL",),
        ),
    ] = ""
    protocol: Annotated[
        Protocol,
        Setting(
            "",
            "How: http/protobuf, http/json or grpc, which the URLs grpc:// and grpcs:// say too.",
            ("AFTERGLOW_SEND_PROTOCOL",),
        ),
    ] = "http/protobuf"
    headers: Annotated[
        str,
        Setting(
            "NAME=VALUE,...",
            "Sent with each request, such as a token; values are percent-encoded, as in "
            "OTEL_EXPORTER_OTLP_HEADERS.",
            ("AFTERGLOW_SEND_HEADERS",),
            secret=True,
        ),
    ] = ""
    project_header: Annotated[
        str,
        Setting(
            "header",
            "Says the project of the spans of a request, such as x-afterglow-project; requests are "
            "of one project each then. Empty: projects are not told, and share requests.",
            ("AFTERGLOW_SEND_PROJECT_HEADER",),
        ),
    ] = ""
    compression: Annotated[
        Compression,
        Setting(
            "",
            "Of bodies; not every backend takes zstd, and gRPC has gzip alone.",
            ("AFTERGLOW_SEND_COMPRESSION",),
        ),
    ] = "gzip"
    ca_file: Annotated[
        str,
        Setting(
            "path",
            "The authorities that a server's certificate may be of; empty: the system's.",
            ("AFTERGLOW_SEND_CA_FILE",),
        ),
    ] = ""
    timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A request is answered within this, or it is made again.",
            ("AFTERGLOW_SEND_TIMEOUT_S",),
            0.01,
            600.0,
        ),
    ] = 10.0
    max_request_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request is cut at this, before compression; a span that is larger goes alone. Many "
            "servers take 4 MiB by gRPC.",
            ("AFTERGLOW_SEND_MAX_REQUEST_BYTES",),
            1 * _KIB,
            1 * _GIB,
        ),
    ] = 2 * _MIB
    max_queue_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "What waits on the disk while the other side is away.",
            ("AFTERGLOW_SEND_MAX_QUEUE_BYTES",),
            64 * _KIB,
            1 << 50,
        ),
    ] = 1 * _GIB
    on_full: Annotated[
        OnFull,
        Setting(
            "",
            "What a full queue does: refuse makes senders wait, drop_oldest counts what it drops "
            "as queue_full.",
            ("AFTERGLOW_SEND_ON_FULL",),
        ),
    ] = "refuse"
    patience_s: Annotated[
        float,
        Setting(
            "s",
            "Whatever takes longer than this to be sent goes to the disk queue meanwhile, so that "
            "a slow backend holds up nobody.",
            ("AFTERGLOW_SEND_PATIENCE_S",),
            0.0,
            600.0,
        ),
    ] = 1.0
    retry_s: Annotated[
        float,
        Setting(
            "s",
            "The first wait when the other side is away is up to this long; the next ones up to "
            "twice the one before.",
            ("AFTERGLOW_SEND_RETRY_S",),
            0.01,
            600.0,
        ),
    ] = 0.5
    max_retry_s: Annotated[
        float,
        Setting(
            "s",
            "No wait is longer than this, unless the other side asks for it.",
            ("AFTERGLOW_SEND_MAX_RETRY_S",),
            0.01,
            3_600.0,
        ),
    ] = 30.0


def is_url(destination: object) -> bool:
    """Whether spans for this are sent, rather than written to a file of that name."""
    return isinstance(destination, str) and destination.startswith(SCHEMES)


def destination(given: str | None = None) -> str:
    """Where a program's spans go: what it says, else the URL or the database of the settings."""
    return given or load(SendConfig, {}).url or load(RunConfig, {}).database
