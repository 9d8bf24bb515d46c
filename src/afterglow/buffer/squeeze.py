"""Payloads made small: zstd contexts that are used again and again, a set for each thread.

Making a context costs more than a small blob does (26 us beside 5 to decompress 4 spans, on a
virtual machine), and the standard library makes a new one for each frame to decompress. So
the Redis buffer uses the `zstandard` package, which keeps them.
"""

from __future__ import annotations

import threading

import zstandard

__all__ = ["Squeezer"]

_LEVEL = 1
#: Below this a frame is not smaller than what is in it.
_RAW_BYTES = 64


class Squeezer:
    """Compresses and decompresses; safe in many threads."""

    def __init__(self) -> None:
        self._own = threading.local()

    def squeeze(self, payload: bytes) -> tuple[bytes, bool]:
        """The payload as it is kept, and whether that is as it was."""
        if len(payload) < _RAW_BYTES:
            return payload, True
        try:
            compressor = self._own.compressor
        except AttributeError:
            compressor = self._own.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        squeezed: bytes = compressor.compress(payload)
        if len(squeezed) >= len(payload):
            return payload, True
        return squeezed, False

    def unsqueeze(self, blob: bytes, is_raw: bool) -> bytes:
        """The payload that `squeeze` was given. Raises zstandard.ZstdError for what is no frame."""
        if is_raw:
            return blob
        try:
            decompressor = self._own.decompressor
        except AttributeError:
            decompressor = self._own.decompressor = zstandard.ZstdDecompressor()
        payload: bytes = decompressor.decompress(blob)
        return payload
