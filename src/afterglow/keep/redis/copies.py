"""Entries as values in Redis: `version:epoch:`, then the entry, or nothing for a mark."""

from __future__ import annotations

from typing import Any

import msgspec

from afterglow.keep.entry import Links, Record

__all__ = ["Copy", "decoded", "encoded", "mark"]

_FIELDS = Record.__struct_fields__
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[list[Any], tuple[str, ...], tuple[str, ...]])


class Copy(msgspec.Struct, frozen=True):
    """All that there is of an entry."""

    record: Record
    links: Links


def mark(version: int, epoch: int) -> bytes:
    """What stands where an entry changes."""
    return b"%d:%d:" % (version, epoch)


def encoded(copy: Copy, version: int, epoch: int) -> bytes:
    """The value of a copy that was right at `version`."""
    # By place, not by type: text and bytes, which a payload may be, are different in msgpack.
    fields = msgspec.structs.astuple(copy.record)
    body = _encoder.encode((fields, copy.links.associated, copy.links.child_ids))
    return mark(version, epoch) + body


def decoded(value: bytes) -> tuple[int, Copy | None]:
    """The epoch of a value, and the copy; None for a mark. Raises ValueError for what is
    neither."""
    _, epoch, body = value.split(b":", 2)
    if not body:
        return int(epoch), None
    fields, associated, child_ids = _decoder.decode(body)
    named = dict(zip(_FIELDS, fields, strict=True))
    named["tags"] = tuple(named["tags"])
    return int(epoch), Copy(Record(**named), Links(associated, child_ids))
