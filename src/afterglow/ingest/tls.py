"""TLS of both faces: files that are checked at start."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from afterglow.config.ingest import IngestConfig
from afterglow.errors import SettingError

__all__ = ["TlsFiles", "tls_context", "tls_files"]


class TlsFiles(msgspec.Struct, frozen=True):
    """What was read of them, in PEM; `client_ca` None: whoever sends needs no certificate."""

    cert: bytes
    key: bytes
    client_ca: bytes | None


def tls_files(config: IngestConfig) -> TlsFiles | None:
    """Read them, for gRPC; None: no TLS is asked for. Raises SettingError as `tls_context` does."""
    if tls_context(config) is None:
        return None
    assert config.tls_cert is not None and config.tls_key is not None
    client_ca = None
    if config.tls_client_ca is not None:
        client_ca = _read("tls_client_ca", config.tls_client_ca)
    return TlsFiles(_read("tls_cert", config.tls_cert), _read("tls_key", config.tls_key), client_ca)


def tls_context(config: IngestConfig) -> ssl.SSLContext | None:
    """For HTTP; None: no TLS is asked for.

    Raises SettingError, which names the setting and the file, unless certificate and key are there
    and belong together: half a setting must not mean no TLS.
    """
    named = [
        (name, path)
        for name in ("tls_cert", "tls_key", "tls_client_ca")
        if (path := getattr(config, name)) is not None
    ]
    if not named:
        return None
    if config.tls_cert is None or config.tls_key is None:
        missing = "tls_cert" if config.tls_cert is None else "tls_key"
        raise SettingError(f"{missing} is missing: TLS needs tls_cert and tls_key")
    for name, path in named:
        _read(name, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_key(context, config.tls_cert, config.tls_key)
    if config.tls_client_ca is not None:
        _load_authority(context, config.tls_client_ca)
    return context


def _load_key(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # A key with a password would make OpenSSL ask on the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise SettingError(
            f"tls_cert={cert!r} and tls_key={key!r} are no certificate and its key without a "
            f"password, in PEM: {_reason(error)}"
        ) from None


def _load_authority(context: ssl.SSLContext, client_ca: str) -> None:
    try:
        context.load_verify_locations(client_ca)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise SettingError(
            f"tls_client_ca={client_ca!r} holds no certificates in PEM: {_reason(error)}"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingError(f"{name}: cannot read {path}: {error.strerror}") from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
