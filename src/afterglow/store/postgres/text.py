"""Texts that PostgreSQL would refuse, as texts that it takes, and back exactly.

Its `text` holds no NUL, and UTF-8 no lone surrogate. Both are escaped with SUB (0x1a), which is
escaped itself: NUL is SUB 0, SUB is SUB 1, a surrogate SUB and its four digits. All other texts
stay as they are, readable in psql.
"""

from __future__ import annotations

import re
from hashlib import sha256

__all__ = ["kept", "payload_bytes", "payload_text", "read", "tag_key"]

_LONGEST_KEY = 512
_ODD = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([01]|d[0-9a-f]{3})")


def kept(text: str) -> str:
    """As it is kept: without NUL and surrogates."""
    return _ODD.sub(_escape, text)


def read(text: str) -> str:
    """As it was before `kept`."""
    return _ESCAPED.sub(_unescape, text) if "\x1a" in text else text


def payload_bytes(text: str) -> bytes:
    """UTF-8, and what UTF-8 has not."""
    return text.encode("utf-8", "surrogatepass")


def payload_text(octets: bytes) -> str:
    """The text of such bytes."""
    return octets.decode("utf-8", "surrogatepass")


def tag_key(tag: str) -> str:
    """What a tag is found by. An index takes no long keys: of a long tag, it is the digest."""
    octets = payload_bytes(tag)
    return kept(tag) if len(octets) <= _LONGEST_KEY else f"\x1a#{sha256(octets).hexdigest()}"


def _escape(match: re.Match[str]) -> str:
    odd = match[0]
    return {"\0": "\x1a0", "\x1a": "\x1a1"}.get(odd) or f"\x1a{ord(odd):x}"


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return {"0": "\0", "1": "\x1a"}.get(code) or chr(int(code, 16))
