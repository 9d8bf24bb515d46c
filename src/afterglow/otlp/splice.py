"""Protobuf messages put together from parts that are encoded already."""

from __future__ import annotations

__all__ = ["field"]


def field(tag: int, message: bytes) -> bytes:
    """A field that holds bytes: its tag, the length as a varint, the bytes."""
    length = len(message)
    if length < 0x80:
        return bytes((tag, length)) + message
    if length < 0x4000:
        return bytes((tag, length & 0x7F | 0x80, length >> 7)) + message
    head = bytearray([tag])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + message
