"""Where OTLP is sent: the parts of a URL and of the headers of [send], checked once."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from afterglow.config import SendConfig
from afterglow.errors import SettingError

__all__ = ["Address", "address_of", "headers_of"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Ours to set: a setting that sets them too would contradict the body.
_OURS: Final = frozenset(("content-type", "content-encoding", "content-length", "host",
                          "transfer-encoding", "connection"))  # fmt: skip


class Address(NamedTuple):
    """`path` is of HTTP alone; `shown` is the URL for a person, without anything secret."""

    host: str
    port: int
    path: str
    tls: bool
    grpc: bool
    shown: str


def address_of(config: SendConfig) -> Address:
    """The parts of `config.url`. Raises SettingError for what is no URL of ours."""
    url = config.url
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise SettingError(f"url={url!r} of [send] is no URL: {error}") from None
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not host:
        raise SettingError(
            f"url={_shown(url)!r} of [send] is none of http://HOST:4318, https://HOST, "
            "grpc://HOST:4317, grpcs://HOST"
        )
    if "@" in parts.netloc:
        raise SettingError("url of [send] holds a password: put it into headers of [send]")
    if parts.fragment or not url.isprintable() or " " in url:
        raise SettingError(f"url={url!r} of [send] holds what a URL of a server cannot")
    tls = parts.scheme in ("https", "grpcs")
    grpc = parts.scheme.startswith("grpc") or config.protocol == "grpc"
    if grpc and (parts.path not in ("", "/") or parts.query):
        raise SettingError(f"url={url!r} of [send] has a path, which gRPC does not know")
    path = parts.path.rstrip("/")
    if not path.endswith("/traces"):
        path += "/v1/traces"
    if parts.query:
        path += f"?{parts.query}"
    if port is None:
        port = 4317 if grpc and not tls else 443 if tls else 4318
    name = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{name}:{port}" + ("" if grpc else parts.path)
    return Address(host, port, path, tls, grpc, shown)


def headers_of(config: SendConfig) -> dict[str, str]:
    """The headers of a request, by lower-case name. Raises SettingError, which shows no value."""
    headers: dict[str, str] = {}
    for pair in filter(None, (word.strip() for word in config.headers.split(","))):
        name, equals, value = pair.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not _TOKEN.fullmatch(name):
            raise SettingError(
                "headers of [send] takes NAME=VALUE,NAME=VALUE, values percent-encoded"
            )
        if not value.isascii() or not value.isprintable():
            raise SettingError(f"headers of [send]: the value of {name} is no printable ASCII")
        if name in _OURS:
            raise SettingError(f"headers of [send]: {name} is ours to set")
        headers[name] = value
    name = config.project_header.lower()
    if name and (not _TOKEN.fullmatch(name) or name in _OURS):
        raise SettingError(f"project_header={config.project_header!r} of [send] is no header")
    return headers


def _shown(url: str) -> str:
    """A URL that may hold a password, without it."""
    return re.sub(r"//[^/]*@", "//***@", url)
