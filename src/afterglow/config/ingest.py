"""Spans in, by OTLP over HTTP and gRPC: where to listen, who may send, how much."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["IngestConfig"]

_KIB = 1 << 10
_MIB = 1 << 20


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """OTLP in: addresses, tokens, projects, TLS, limits (docs/otlp-in.md)."""

    http: Annotated[
        str,
        Setting(
            "",
            "OTLP/HTTP listens at HOST:PORT; port 0: any free one; off: not at all.",
            ("AFTERGLOW_INGEST_HTTP",),
            1,
            300,
        ),
    ] = "127.0.0.1:4318"
    grpc: Annotated[
        str,
        Setting(
            "",
            "OTLP/gRPC listens at HOST:PORT; port 0: any free one; off: not at all.",
            ("AFTERGLOW_INGEST_GRPC",),
            1,
            300,
        ),
    ] = "127.0.0.1:4317"
    tokens: Annotated[
        tuple[str, ...],
        Setting(
            "tokens",
            "Who may send: TOKEN:PROJECT each, or TOKEN for `default`, or TOKEN:* for any project. "
            "Where there are none, everybody who reaches the address may.",
            ("AFTERGLOW_INGEST_TOKENS",),
            secret=True,
        ),
    ] = ()
    tokens_file: Annotated[
        str | None,
        Setting(
            "path",
            "More of them in a file: a token and its project on each line; # begins a comment.",
            ("AFTERGLOW_INGEST_TOKENS_FILE",),
        ),
    ] = None
    project_header: Annotated[
        bool,
        Setting(
            "",
            "Without tokens, the header x-afterglow-project says whose spans these are. Off: a "
            "request with another project than `default` is refused.",
            ("AFTERGLOW_INGEST_PROJECT_HEADER",),
        ),
    ] = True
    allow_anonymous: Annotated[
        bool,
        Setting(
            "",
            "Listen beyond this machine without tokens: whoever reaches the address may send.",
            ("AFTERGLOW_INGEST_ALLOW_ANONYMOUS",),
        ),
    ] = False
    tls_cert: Annotated[
        str | None,
        Setting(
            "path",
            "Certificates in PEM, the server's first; both addresses speak TLS then.",
            ("AFTERGLOW_INGEST_TLS_CERT",),
        ),
    ] = None
    tls_key: Annotated[
        str | None,
        Setting("path", "Its private key in PEM, without a password.",
                ("AFTERGLOW_INGEST_TLS_KEY",)),
    ] = None  # fmt: skip
    tls_client_ca: Annotated[
        str | None,
        Setting(
            "path",
            "Whoever sends must have a certificate of these authorities (PEM).",
            ("AFTERGLOW_INGEST_TLS_CLIENT_CA",),
        ),
    ] = None
    max_waiting_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "Bodies that are being read or wait for a thread; what would be more is to come again "
            "later (429).",
            ("AFTERGLOW_INGEST_MAX_WAITING_BYTES",),
            1 * _MIB,
            1 << 40,
        ),
    ] = 128 * _MIB
    threads: Annotated[
        int,
        Setting(
            "threads",
            "So many bodies are decoded and added at once, for each of HTTP and gRPC.",
            ("AFTERGLOW_INGEST_THREADS",),
            1,
            256,
        ),
    ] = 4
    max_connections: Annotated[
        int,
        Setting(
            "connections",
            "Open at once, for each of HTTP and gRPC; one more is told to come again later.",
            ("AFTERGLOW_INGEST_MAX_CONNECTIONS",),
            1,
            100_000,
        ),
    ] = 1_000
    max_calls: Annotated[
        int,
        Setting(
            "calls",
            "gRPC calls that may run or wait at once; one more is told to come again later.",
            ("AFTERGLOW_INGEST_MAX_CALLS",),
            1,
            100_000,
        ),
    ] = 32
    max_header_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request with longer headers is refused (431).",
            ("AFTERGLOW_INGEST_MAX_HEADER_BYTES",),
            1 * _KIB,
            1 * _MIB,
        ),
    ] = 32 * _KIB
    header_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A connection whose request has not begun, with all its headers, by then is closed.",
            ("AFTERGLOW_INGEST_HEADER_TIMEOUT_S",),
            0.05,
            3_600.0,
        ),
    ] = 10.0
    body_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A body that is not there as a whole by then is given up (408).",
            ("AFTERGLOW_INGEST_BODY_TIMEOUT_S",),
            0.05,
            3_600.0,
        ),
    ] = 30.0
    keep_alive_s: Annotated[
        float,
        Setting(
            "s",
            "A connection on which nothing has come for so long after an answer is closed.",
            ("AFTERGLOW_INGEST_KEEP_ALIVE_S",),
            0.05,
            86_400.0,
        ),
    ] = 75.0
