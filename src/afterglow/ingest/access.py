"""Who may send, and whose spans they are: tokens, projects, and addresses beyond this machine."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

from afterglow.config.ingest import IngestConfig
from afterglow.errors import SettingError

__all__ = [
    "ANY_PROJECT",
    "DEFAULT_PROJECT",
    "Access",
    "Address",
    "Denial",
    "address_of",
    "check_open",
    "is_project",
]

DEFAULT_PROJECT: Final = "default"
#: In the place of a token's project: its holder may name any.
ANY_PROJECT: Final = "*"

_PROJECT: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")
#: RFC 6750's b64token; 16 characters are the least that nobody guesses.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+) *")
_MOST_FILE_BYTES: Final = 1 << 20


def is_project(name: str) -> bool:
    """Whether a project may be called so: 1-64 of [A-Za-z0-9._-], not beginning with a dot."""
    return _PROJECT.fullmatch(name) is not None


class Denial(NamedTuple):
    """A request may not: who it is, is not known; it is not allowed; or it names no project."""

    kind: Literal["unauthenticated", "forbidden", "bad_project"]
    message: str


class _Token(NamedTuple):
    digest: bytes
    project: str


class Access:
    """Says of each request whose spans it brings, or that it may not. Immutable; any thread.

    Raises SettingError for tokens and files of tokens that cannot be used; no message shows one.
    """

    def __init__(self, config: IngestConfig) -> None:
        self._tokens = tuple(_tokens(config))
        self._by_header = config.project_header

    @property
    def has_tokens(self) -> bool:
        """Whether anything but a token is refused."""
        return bool(self._tokens)

    def knows(self, authorization: bytes | None) -> str | Denial:
        """The project of the token in an `authorization` header; `*` is any of them.

        Without tokens everybody may, as any project if the settings say so.
        """
        if not self._tokens:
            return ANY_PROJECT if self._by_header else DEFAULT_PROJECT
        given = _BEARER.fullmatch(authorization or b"")
        # All are compared, whichever it is, and by digests: the time taken says nothing.
        digest = sha256(given[1] if given else b"").digest()
        found: str | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token.project
        if given is None:
            return Denial("unauthenticated", "send a token: authorization: Bearer TOKEN")
        if found is None:
            return Denial("unauthenticated", "the token is none of those that may send here")
        return found

    def project_of(self, authorization: bytes | None, asked: bytes | None) -> str | Denial:
        """The project of a request with these headers (`asked`: x-afterglow-project)."""
        known = self.knows(authorization)
        if isinstance(known, Denial):
            return known
        if not asked:
            return DEFAULT_PROJECT if known == ANY_PROJECT else known
        project = asked.decode("latin-1")
        if not is_project(project):
            return Denial(
                "bad_project",
                "x-afterglow-project takes 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot",
            )
        if known not in (ANY_PROJECT, project):
            why = "this token is for" if self._tokens else "spans here go to"
            return Denial("forbidden", f"{why} another project than x-afterglow-project names")
        return project


def _tokens(config: IngestConfig) -> Iterator[_Token]:
    seen: dict[bytes, str] = {}
    for where, token, project in _given_tokens(config):
        if _TOKEN.fullmatch(token) is None:
            raise SettingError(
                f"{where} is no token: it takes 16 or more of A-Z a-z 0-9 . _ ~ + / - "
                "(`openssl rand -hex 24` makes one), then its project"
            )
        if project != ANY_PROJECT and not is_project(project):
            raise SettingError(
                f"{where} has a project that cannot be one: it takes 1 to 64 of A-Z a-z 0-9 . _ -, "
                "not beginning with a dot, or * for any"
            )
        digest = sha256(token.encode()).digest()
        if seen.setdefault(digest, project) != project:
            raise SettingError(f"{where} is the same token as one before it, for another project")
        yield _Token(digest, project)


def _given_tokens(config: IngestConfig) -> Iterator[tuple[str, str, str]]:
    """Where it stands (never the token itself), the token, its project."""
    for number, given in enumerate(config.tokens, 1):
        token, colon, project = given.strip().partition(":")
        yield f"tokens, number {number},", token, project if colon else DEFAULT_PROJECT
    if config.tokens_file is None:
        return
    try:
        with Path(config.tokens_file).open("rb") as file:
            text = file.read(_MOST_FILE_BYTES + 1).decode()
    except OSError as error:
        raise SettingError(
            f"cannot read the tokens in {config.tokens_file}: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise SettingError(
            f"{config.tokens_file} is no text: it takes TOKEN PROJECT a line"
        ) from None
    if len(text) > _MOST_FILE_BYTES:
        raise SettingError(f"{config.tokens_file} is larger than 1 MiB: this is no file of tokens")
    n_tokens = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2:
            raise SettingError(f"{config.tokens_file}:{number} takes TOKEN PROJECT, nothing else")
        n_tokens += 1
        project = words[1] if len(words) == 2 else DEFAULT_PROJECT
        yield f"{config.tokens_file}:{number}", words[0], project
    if not n_tokens:
        # An empty file must not open the door to everybody.
        raise SettingError(f"{config.tokens_file} has no tokens: it takes TOKEN PROJECT a line")


class Address(NamedTuple):
    """Where a face listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address_of(name: str, text: str) -> Address | None:
    """`HOST:PORT` or `[IPV6]:PORT`; None for `off`. Raises SettingError, which says `name`."""
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise SettingError(
            f"{name}={text!r} is no address: it takes HOST:PORT (127.0.0.1:4318, [::1]:4318, "
            "port 0 for any free one) or off"
        )
    return Address(host, int(port))


def check_open(name: str, address: Address, config: IngestConfig, access: Access) -> None:
    """Refuse to listen beyond this machine to everybody, unless that was asked for.

    Raises SettingError.
    """
    if address.is_loopback or access.has_tokens or config.allow_anonymous:
        return
    raise SettingError(
        f"{name}={address} is open to other machines, and anybody there could send: set tokens or "
        "tokens_file, or allow_anonymous where others may"
    )
