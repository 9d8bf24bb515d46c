"""Protobuf's frame: where fields begin and end, without making a message of what is in them.

A message of 2 bytes that is in a list costs protobuf a hundred bytes of memory and more, so what
others send is counted here before it is parsed.
"""

from __future__ import annotations

from typing import Any, Final

from afterglow.errors import MalformedOtlpError, OtlpLimitError

__all__ = ["RESOURCE_HEAD", "SCOPE_HEAD", "SPAN", "Kinds", "Ruler", "split", "varint"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10

#: By the tag of a field which holds a message: the same for that message.
Kinds = dict[int, Any]

_VALUE: Kinds = {}
_PAIR: Kinds = {0x12: _VALUE}
_ARRAY: Kinds = {0x0A: _VALUE}
_PAIRS: Kinds = {0x0A: _PAIR}
_VALUE.update({0x2A: _ARRAY, 0x32: _PAIRS})
#: A span; its attributes, events, links and status.
SPAN: Final[Kinds] = {0x4A: _PAIR, 0x5A: {0x1A: _PAIR}, 0x6A: {0x22: _PAIR}, 0x7A: {}}
#: ResourceSpans and ScopeSpans without the lists that make them long.
RESOURCE_HEAD: Final[Kinds] = {0x0A: {0x0A: _PAIR, 0x1A: {}}}
SCOPE_HEAD: Final[Kinds] = {0x0A: {0x1A: _PAIR}}


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends. Raises MalformedOtlpError."""
    value = shift = 0
    for position in range(at, min(at + _LONGEST_VARINT, len(message))):
        byte = message[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise _cut_off(at)


def split(
    message: bytes, at: int, end: int, tag: int, most: int
) -> tuple[list[tuple[int, int]], bytes]:
    """Where the contents of the fields with this tag begin and end, and all other fields as they
    came. Raises MalformedOtlpError, and OtlpLimitError where either are more than `most`."""
    found: list[tuple[int, int]] = []
    others: list[bytes] = []
    n_others, run = 0, at  # fields that are others, from `run` on
    while at < end:
        begin = at
        own = message[at]
        # Nearly all are short fields of this tag: without a call for each.
        if own == tag and at + 2 < end and (message[at + 1] < 0x80 or message[at + 2] < 0x80):
            length = message[at + 1]
            start = at + 2
            if length > 0x7F:
                length += (message[start] - 1) << 7
                start += 1
            at = start + length
            if at > end:
                raise _cut_off(begin)
        else:
            own, start, at = _field(message, at, end)
        if own == tag:
            if run < begin:
                others.append(message[run:begin])
            found.append((start, at))
            run = at
            if len(found) > most:
                break
        else:
            n_others += 1
            if n_others > most:
                break
    if len(found) > most or n_others > most:
        raise OtlpLimitError(f"the request has more than {most:,} parts: send fewer spans at once")
    if run < end:
        others.append(message[run:end])
    return found, b"".join(others)


def _field(message: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The tag of the field there, where its content begins, and where it ends."""
    begin = at
    tag = message[at]
    at += 1
    if tag > 0x7F:
        tag, at = varint(message, begin)
    kind = tag & 7
    start = at
    if kind == _BYTES:
        if at >= end:
            raise _cut_off(begin)
        length = message[at]
        start = at + 1
        if length > 0x7F:
            length, start = varint(message, at)
        at = start + length
    elif kind == _VARINT:
        _, at = varint(message, at)
    elif kind == _FIXED64:
        at += 8
    elif kind == _FIXED32:
        at += 4
    else:
        raise MalformedOtlpError(f"byte {begin:,} of the body begins no field of protobuf")
    if at > end:
        raise _cut_off(begin)
    if tag < 8 or tag > 0xFFFF_FFFF:
        raise MalformedOtlpError(f"byte {begin:,} of the body begins no field of protobuf")
    return tag, start, at


class Ruler:
    """Measures messages before they are parsed: bytes, fields, and how deep values are nested."""

    def __init__(self, max_bytes: int, max_fields: int, max_depth: int) -> None:
        self._max_bytes = max_bytes
        self._max_fields = max_fields
        self._max_depth = max_depth
        self._fields = 0
        self._all_fields = 0

    def measure(self, message: bytes, kinds: Kinds) -> None:
        """Raises OtlpLimitError where there is too much in it, MalformedOtlpError."""
        size = len(message)
        if size > _SMALL_BYTES:
            if size > self._max_bytes:
                raise OtlpLimitError(
                    f"a span or resource has {size:,} bytes, and may have {self._max_bytes:,}"
                )
            self._fields = 0
            self._walk(message, 0, size, kinds, 0, counts=True)
            self._all_fields += self._fields
            if self._all_fields > _MOST_TIMES * self._max_fields:
                raise OtlpLimitError(
                    f"large spans have more than {_MOST_TIMES * self._max_fields:,} fields and "
                    "values: send fewer at once"
                )
        elif self._may_be_deep(message, 0):
            self._fields = 0
            self._walk(message, 0, size, kinds, 0, counts=False)

    def _may_be_deep(self, message: bytes, depth: int) -> bool:
        return depth + len(message) - len(message.translate(None, _NESTING)) > self._max_depth

    def _walk(
        self, message: bytes, at: int, end: int, kinds: Kinds, depth: int, *, counts: bool
    ) -> None:
        if kinds is _VALUE and depth > self._max_depth:
            raise OtlpLimitError(f"a value is nested deeper than {self._max_depth} levels")
        while at < end:
            tag, start, at = _field(message, at, end)
            self._fields += 1
            if self._fields > self._max_fields:
                raise OtlpLimitError(
                    f"a span or resource has more than {self._max_fields:,} fields and values"
                )
            inner = kinds.get(tag)
            if inner is None:
                continue
            deeper = depth + 1 if kinds is _VALUE else depth
            if counts or self._may_be_deep(message[start:at], deeper):
                self._walk(message, start, at, inner, deeper, counts=counts)


#: Each level has one of these: the tag of a list (0x2a) or mapping (0x32), or its longer forms.
_NESTING: Final = b"\x2a\x32\xaa\xb2"
#: So many times what one may have, all large ones of a request may have: each takes time.
_MOST_TIMES: Final = 10
#: What is smaller is not counted: whatever is in it, it stays small.
_SMALL_BYTES: Final = 16 << 10


def _cut_off(at: int) -> MalformedOtlpError:
    return MalformedOtlpError(f"the field at byte {at:,} of the body is not whole: was it cut off?")
