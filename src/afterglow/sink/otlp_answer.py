"""What an OTLP server says: taken, later, or never; read from bytes that may be anything.

The three small protobuf messages of an answer are read by hand: what a server sends is bounded
and not to be trusted, and no field of them matters but these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

import msgspec

__all__ = [
    "MOST_WAIT_S",
    "Answer",
    "Outcome",
    "Partial",
    "of_http",
    "partial_of_json",
    "partial_of_protobuf",
    "retry_after_s",
    "retry_info_s",
    "short_text",
]

#: A wait that the other side asks for is honoured up to this.
MOST_WAIT_S: Final = 3_600.0

Outcome = Literal["taken", "later", "too_large", "refused"]

_LATER: Final = frozenset((408, 425, 429, 502, 503, 504))
#: The request is not at fault but where it goes, or who we are: somebody will put that right.
_MISDIRECTED: Final = frozenset((401, 402, 403, 404, 405, 407))


class Answer(NamedTuple):
    """What became of a request; `why` is for a person, one line.

    `rejected` spans of a taken request were refused for ever by the other side.
    """

    outcome: Outcome
    why: str = ""
    retry_after_s: float = 0.0
    rejected: int = 0


class Partial(NamedTuple):
    """The `partial_success` of an answer; a message without rejected spans is a warning."""

    rejected: int = 0
    message: str = ""


def of_http(status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> Answer:
    """The answer that a status, lower-case headers and the beginning of a body make."""
    if 200 <= status < 300:
        is_json = "json" in headers.get("content-type", "").lower()
        partial = partial_of_json(body) if is_json else partial_of_protobuf(body)
        return Answer("taken", partial.message, 0.0, partial.rejected)
    why = f"HTTP {status}"
    if 300 <= status < 400:
        where = short_text(headers.get("location", "").encode())
        return Answer("later", f"{why}: redirects are not followed; send to {where or 'its URL'}")
    text = _reason(headers, body)
    why = f"{why}: {text}" if text else why
    if status in _LATER:
        return Answer("later", why, retry_after_s(headers.get("retry-after", ""), now_ns))
    if status in _MISDIRECTED:
        return Answer("later", f"{why} (are URL and headers of [send] right?)")
    return Answer("too_large" if status == 413 else "refused", why)


def retry_after_s(text: str, now_ns: int) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 for anything else."""
    text = text.strip()
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - now_ns / 1e9
        except (ValueError, TypeError, OverflowError, IndexError):
            return 0.0
    # "not (0 < x)" so that NaN is 0, too.
    return 0.0 if not wait_s > 0 else min(wait_s, MOST_WAIT_S)


def retry_info_s(status: bytes) -> float | None:
    """Seconds of the RetryInfo in a google.rpc.Status; None where there is none."""
    for number, detail in _fields(status):
        if number != 3 or not isinstance(detail, bytes):
            continue
        fields = dict(_fields(detail))
        kind, value = fields.get(1), fields.get(2, b"")
        if not isinstance(kind, bytes) or not kind.endswith(b"google.rpc.RetryInfo"):
            continue
        delay = dict(_fields(value)).get(1, b"") if isinstance(value, bytes) else b""
        parts = dict(_fields(delay)) if isinstance(delay, bytes) else {}
        seconds, nanos = parts.get(1, 0), parts.get(2, 0)
        if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 1 << 40:
            return min(seconds + nanos / 1e9, MOST_WAIT_S)
        return 0.0
    return None


def partial_of_protobuf(body: bytes) -> Partial:
    """The partial success of an ExportTraceServiceResponse; none in what is no such message."""
    inner = dict(_fields(body)).get(1, b"")
    fields = dict(_fields(inner)) if isinstance(inner, bytes) else {}
    rejected, message = fields.get(1, 0), fields.get(2, b"")
    return Partial(
        rejected if isinstance(rejected, int) and rejected < 1 << 63 else 0,
        short_text(message) if isinstance(message, bytes) else "",
    )


class _JsonPartial(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _JsonAnswer(msgspec.Struct, rename="camel"):
    partial_success: _JsonPartial | None = None


def partial_of_json(body: bytes) -> Partial:
    """The same of JSON, where the count may be a string."""
    try:
        partial = msgspec.json.decode(body, type=_JsonAnswer).partial_success or _JsonPartial()
        rejected = int(partial.rejected_spans)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Partial()
    return Partial(max(rejected, 0), short_text(partial.error_message.encode()))


def short_text(text: bytes) -> str:
    """The beginning of a text of somebody else's, printable and on one line."""
    line = " ".join(text[:400].decode("utf-8", "replace").split())
    return "".join(char if char.isprintable() else "?" for char in line)[:200]


def _reason(headers: Mapping[str, str], body: bytes) -> str:
    """What an answer that is none of success says: a google.rpc.Status, or any text."""
    if "protobuf" in headers.get("content-type", "").lower():
        message = dict(_fields(body)).get(2, b"")
        return short_text(message) if isinstance(message, bytes) else ""
    return "" if "html" in headers.get("content-type", "").lower() else short_text(body)


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, as far as it is one: varints and bytes."""
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        match key & 7:
            case 0:
                value, at = _varint(body, at)
                yield key >> 3, value
            case 2:
                size, at = _varint(body, at)
                if at + size > len(body):
                    return
                yield key >> 3, body[at : at + size]
                at += size
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                return


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number and where the next thing begins; behind the end where the bytes are no number."""
    value = shift = 0
    while at < len(body) and shift < 70:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, len(body)
