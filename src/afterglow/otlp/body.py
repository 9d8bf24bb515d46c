"""Bodies of requests: decompressed, and never into more than is allowed."""

from __future__ import annotations

import sys
import zlib
from typing import Any

from afterglow.errors import MalformedOtlpError, OtlpLimitError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ENCODINGS", "decompress"]

ENCODINGS = ("identity", "gzip", "deflate", "zstd")
_STEP = 1 << 18


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its Content-Encoding. Raises MalformedOtlpError, OtlpLimitError."""
    if encoding in ("", "identity"):
        if len(body) > max_bytes:
            raise OtlpLimitError(f"the body has more than {max_bytes:,} bytes")
        return body
    try:
        return _decompress(body, encoding, max_bytes)
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise MalformedOtlpError(f"the body is no whole {encoding}: {error}") from None


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        decoder = _decoder(encoding, body)
        rest = body
        while not decoder.eof:
            part = decoder.decompress(rest, _STEP)
            rest = decoder.unconsumed_tail if encoding != "zstd" else b""
            size += len(part)
            if size > max_bytes:
                raise OtlpLimitError(f"the body decompresses to more than {max_bytes:,} bytes")
            parts.append(part)
            if not part and not rest and not decoder.eof:
                raise MalformedOtlpError(f"the body is no whole {encoding}: it ends too soon")
        body = decoder.unused_data
    return b"".join(parts)


def _decoder(encoding: str, body: bytes) -> Any:
    if encoding == "gzip":
        return zlib.decompressobj(31)
    if encoding == "zstd":
        return zstd.ZstdDecompressor()
    if encoding == "deflate":
        # RFC 9110 says zlib's format; some send the bare stream.
        bare = len(body) < 2 or body[0] & 0x0F != 8 or int.from_bytes(body[:2]) % 31
        return zlib.decompressobj(-15 if bare else 15)
    raise MalformedOtlpError(f"{encoding} is no encoding of ours: {', '.join(ENCODINGS)}")
