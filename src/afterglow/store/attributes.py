"""Attributes as JSON text and back, without loss.

What JSON has is written as JSON has it. The rest is an object with one key:

    {"$bytes": "3q2+7w=="}        bytes, base64
    {"$float": "nan"}             nan, inf, -inf
    {"$int": "9223372036854775808"}   integers beyond 64 signed bits, which SQLite would round
    {"$map": {...}}               a mapping whose only key begins with "$"
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, repeat
from math import isfinite
from typing import Any

import msgspec

from afterglow.errors import DamagedStoreError
from afterglow.store.columns import Columns

__all__ = ["decode_attributes", "encode_attributes", "encode_column"]

_INT_MIN = -(1 << 63)
_INT_MAX = (1 << 63) - 1

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])


def encode_attributes(attributes: Mapping[str, Any]) -> str:
    """One span's attributes as JSON text."""
    if not attributes:
        return "{}"
    return _encoder.encode({k: _to_json(v) for k, v in attributes.items()}).decode()


def encode_column(columns: Columns) -> list[str]:
    """The attributes of each row as JSON text.

    It is put together from columns, without making a dict a row: a third of the time.
    """
    if not columns.shapes:
        return []
    groups = [
        _texts(shape, values) for shape, values in zip(columns.shapes, columns.values, strict=True)
    ]
    if columns.shape_index is None:
        return list(islice(groups[0], len(columns)))
    return [next(groups[shape]) for shape in columns.shape_index]


def _texts(shape: Sequence[str], values: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The rows of one shape, one after the other."""
    if not shape:
        return repeat("{}")
    fields = [
        # A percent sign of the key's own must survive the template.
        _encoder.encode(key).decode().replace("%", "%%") + (":%d" if _plain_ints(column) else ":%s")
        for key, column in zip(shape, values, strict=True)
    ]
    template = "{" + ",".join(fields) + "}"
    return map(template.__mod__, zip(*map(_json_column, values), strict=True))


def _plain_ints(column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {int} and _INT_MIN <= min(column) <= max(column) <= _INT_MAX


def _json_column(column: Sequence[Any]) -> Sequence[Any]:
    """The values as JSON text; integers as they are, which the template writes."""
    if _plain_ints(column):
        return column
    # JSON text holds no line feed of its own. Not splitlines: it also splits at line ends that
    # JSON leaves as they are (U+2028).
    lines = _encoder.encode_lines(_safe(column)).decode().split("\n")
    lines.pop()  # after the last line end
    return lines


def _safe(column: Sequence[Any]) -> Sequence[Any]:
    """The column itself where every value is plain JSON, as nearly always, else a changed one."""
    kinds = set(map(type, column))
    if kinds <= {str, bool, type(None)}:
        return column
    if kinds == {float} and all(map(isfinite, column)):
        return column
    return [_to_json(value) for value in column]


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if _INT_MIN <= value <= _INT_MAX else {"$int": str(value)}
    if isinstance(value, float):
        return value if isfinite(value) else {"$float": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        plain = {str(key): _to_json(item) for key, item in value.items()}
        if len(plain) == 1 and next(iter(plain)).startswith("$"):
            return {"$map": plain}
        return plain
    return str(value)


def decode_attributes(text: str) -> dict[str, Any]:
    """The attributes of a row. Raises DamagedStoreError if it is no JSON object."""
    if text == "{}":
        return {}
    try:
        attributes = _decoder.decode(text)
        if '{"$' in text:
            return {key: _from_json(value) for key, value in attributes.items()}
    except (msgspec.DecodeError, ValueError, KeyError) as error:
        raise DamagedStoreError(f"attributes cannot be read: {error}: {text[:60]!r}") from error
    return attributes


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == "$bytes":
                return base64.b64decode(inner)
            if key == "$float":
                return float(inner)
            if key == "$int":
                return int(inner)
            if key == "$map":
                value = inner
        return {key: _from_json(item) for key, item in value.items()}
    return value
