"""How records lie in a file of a spool.

    file    prefix, then frames; the first frame is the header that the owner gave
    prefix  magic (8 bytes), salt (4), crc32 of both (4)
    frame   marker (4 bytes), length of the body (4), crc32 of length and body (4), body

Checksums begin with the file's salt: neither what a sender put into a body nor what a file before
left on the same blocks of the disk is ever taken for a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

__all__ = [
    "FRAME_BYTES",
    "MAX_RECORD_BYTES",
    "PREFIX_BYTES",
    "START",
    "Frame",
    "Gap",
    "Position",
    "frame_head",
    "frames",
    "prefix",
    "salt_of",
]

_MAGIC: Final = b"AGSPOOL\x01"
_MARKER: Final = b"\xf5\xa9\x0b\xfe"
_PREFIX: Final = Struct("<8sII")
_HEAD: Final = Struct("<4sII")
_LENGTH: Final = Struct("<I")
PREFIX_BYTES: Final = _PREFIX.size
FRAME_BYTES: Final = _HEAD.size
MAX_RECORD_BYTES: Final = 1 << 30
_LOOK_BYTES: Final = 1 << 20


class Position(NamedTuple):
    """Where a record begins: later records have greater positions, also over restarts."""

    file: int
    offset: int


#: Before every record.
START: Final = Position(0, 0)


class Frame(NamedTuple):
    """A good record: where it begins in its file, and its body."""

    offset: int
    body: bytes


class Gap(NamedTuple):
    """Bytes that are no good record. `at_end`: no good record follows them in this file."""

    offset: int
    n_bytes: int
    at_end: bool


def prefix(salt: int) -> bytes:
    """How a file begins."""
    start = _PREFIX.pack(_MAGIC, salt, 0)[:-4]
    return start + _LENGTH.pack(crc32(start))


def salt_of(start: bytes) -> int | None:
    """The salt of a file that begins so; None if it is no such beginning, or a damaged one."""
    if len(start) < PREFIX_BYTES:
        return None
    _, salt, _ = _PREFIX.unpack_from(start)
    found: int = salt
    return found if start[:PREFIX_BYTES] == prefix(found) else None


def frame_head(body: bytes, salt: int) -> bytes:
    """What stands before a body."""
    n_bytes = len(body)
    return _HEAD.pack(_MARKER, n_bytes, crc32(body, crc32(_LENGTH.pack(n_bytes), salt)))


def frames(file: BinaryIO, offset: int, end: int, salt: int) -> Iterator[Frame | Gap]:
    """All from an offset on, at which a frame should begin, up to `end`. Raises OSError."""
    file.seek(offset)
    while offset < end:
        body = _body(file, end - offset, salt)
        if body is None:
            found = _next_good(file, offset + 1, end, salt)
            yield Gap(offset, (end if found is None else found) - offset, found is None)
            if found is None:
                return
            offset = found
            file.seek(offset)
            continue
        yield Frame(offset, body)
        offset += FRAME_BYTES + len(body)


def _body(file: BinaryIO, room: int, salt: int) -> bytes | None:
    """The body of the frame that begins here; None if there is no good one."""
    head = file.read(FRAME_BYTES)
    if len(head) < FRAME_BYTES:
        return None
    marker, n_bytes, crc = _HEAD.unpack(head)
    if marker != _MARKER or n_bytes > room - FRAME_BYTES:
        return None
    body = file.read(n_bytes)
    if len(body) < n_bytes or crc32(body, crc32(head[4:8], salt)) != crc:
        return None
    return body


def _next_good(file: BinaryIO, offset: int, end: int, salt: int) -> int | None:
    """Where the next good frame begins."""
    while offset < end:
        file.seek(offset)
        window = file.read(min(_LOOK_BYTES, end - offset))
        at = window.find(_MARKER)
        if at < 0:
            if offset + len(window) >= end or not window:
                return None
            offset += max(1, len(window) - len(_MARKER) + 1)
            continue
        offset += at
        file.seek(offset)
        if _body(file, end - offset, salt) is not None:
            return offset
        offset += 1
    return None
