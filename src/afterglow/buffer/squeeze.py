"""Payloads made small: zstd contexts that are used again and again, a set for each thread.

Making a context costs more than a small blob does (26 us beside 5 to decompress 4 spans, on a
virtual machine), and the standard library makes a new one for each frame to decompress. So
the Redis buffer uses the `zstandard` package, which keeps them.

A small blob is squeezed with a dictionary that was trained on spans like it, where there is one
(dictionaries.py): half the bytes in two thirds of the time. Beyond some spans it costs more time
than it saves bytes.
"""

from __future__ import annotations

import threading
from typing import Any, Final
from zlib import crc32

import zstandard

__all__ = ["Squeezer"]

_LEVEL: Final = 1
#: Below this a frame is not smaller than what is in it.
_RAW_BYTES: Final = 64
#: Above this a dictionary does not pay.
_DICTIONARY_BYTES: Final = 8_192


class Squeezer:
    """Compresses and decompresses; safe in many threads."""

    def __init__(self) -> None:
        self._own = threading.local()
        #: By id; entries are only added, and threads read without a lock.
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict] = {}
        self._contents: dict[int, bytes] = {}
        #: The dictionary that small blobs are squeezed with; 0: none.
        self.current = 0

    def squeeze(self, payload: bytes, dictionary: int = 0) -> tuple[bytes, bool, int]:
        """The payload as it is kept, whether that is as it was, and the dictionary's id (0: none).

        `dictionary` is what may be used; a large payload does without.
        """
        n_bytes = len(payload)
        if n_bytes < _RAW_BYTES:
            return payload, True, 0
        if n_bytes > _DICTIONARY_BYTES:
            dictionary = 0
        try:
            compress = self._own.compress[dictionary]
        except (AttributeError, KeyError):
            compress = self._new("compress", dictionary)
        squeezed: bytes = compress(payload)
        if len(squeezed) >= n_bytes:
            return payload, True, 0
        return squeezed, False, dictionary

    def unsqueeze(self, blob: bytes, is_raw: bool, dictionary: int) -> bytes:
        """The payload that `squeeze` was given. Raises zstandard.ZstdError for what is no frame."""
        if is_raw:
            return blob
        try:
            decompress = self._own.decompress[dictionary]
        except (AttributeError, KeyError):
            decompress = self._new("decompress", dictionary)
        payload: bytes = decompress(blob)
        return payload

    def knows(self, dictionary: int) -> bool:
        """Whether blobs of this dictionary can be read."""
        return not dictionary or dictionary in self._dictionaries

    def learn(self, content: bytes) -> int:
        """Know a dictionary from now on; its id, which is never 0."""
        number = crc32(content) or 1
        if number not in self._dictionaries:
            self._contents[number] = content
            self._dictionaries[number] = zstandard.ZstdCompressionDict(content)
        return number

    def content(self, dictionary: int) -> bytes:
        """The dictionary as it is kept in Redis."""
        return self._contents[dictionary]

    def _new(self, what: str, dictionary: int) -> Any:
        known: zstandard.ZstdCompressionDict | None = self._dictionaries.get(dictionary)
        if what == "compress":
            made: Any = zstandard.ZstdCompressor(level=_LEVEL, dict_data=known).compress
        else:
            made = zstandard.ZstdDecompressor(dict_data=known).decompress
        if not hasattr(self._own, what):
            setattr(self._own, what, {})
        getattr(self._own, what)[dictionary] = made
        return made
