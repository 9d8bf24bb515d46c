"""What a name and an attribute may be, and how anything else is made into one.

The rules are OpenTelemetry's (specification, common/attribute): a value is a str, bool,
int of 64 bits, float, bytes, None, or a list or mapping of these; keys are non-empty
strings. Whatever is something else becomes its `str()`, and is counted; nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from afterglow.model.span import Attributes, AttributeValue

__all__ = ["Count", "clean_attributes", "clean_name", "clean_text", "safe_str"]

#: Called with the kind of change (one of ledger.CHANGE_KINDS) and how often it was made.
Count = Callable[[str, int], None]

_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1  # msgpack's widest; SQLite and OTLP take the signed half as int
_MAX_DEPTH: Final = 8  # deeper values become text: nothing a reader could use, and no recursion
_MAX_ITEMS: Final = 1_000  # a list or mapping is cut here: attributes are for reading


def safe_str(value: object) -> str:
    """`str(value)`, whatever the value does: a broken `__str__` gives its type's name."""
    try:
        return clean_text(str(value))
    except BaseException as exception:
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            raise
        return f"<{type(value).__name__}>"


def clean_text(text: str) -> str:
    """The same text, with what UTF-8 cannot carry (lone surrogates) replaced by `?`."""
    if text.isascii():
        return str(text)
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_name(name: object, count: Count) -> str:
    """A span's or event's name as text."""
    if type(name) is str:
        text = clean_text(name)
        if text is not name and text != name:
            count("names_changed", 1)
        return text
    count("names_changed", 1)
    return safe_str(name)


def clean_attributes(
    attributes: Mapping[Any, Any],
    count: Count,
    *,
    max_attributes: int = 128,
    max_value_length: int | None = None,
) -> tuple[Attributes, int]:
    """A new dict that any encoder takes, and how many attributes were dropped.

    Of too many attributes the ones set last stay, as the OpenTelemetry SDK has it.
    """
    items = list(attributes.items())
    dropped = max(0, len(items) - max_attributes)
    result: Attributes = {}
    for key, value in items[dropped:]:
        if not isinstance(key, str) or not key:
            dropped += 1
            continue
        result[clean_text(key)] = _clean_value(value, count, max_value_length, 0)
    if dropped:
        count("attributes_dropped", dropped)
    return result, dropped


def _clean_value(value: Any, count: Count, limit: int | None, depth: int) -> AttributeValue:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = clean_text(value)
        if limit is not None and len(text) > limit:
            count("values_truncated", 1)
            return text[:limit]
        return text
    if isinstance(value, int):
        if _INT_MIN <= value <= _INT_MAX:
            return int(value)
    elif isinstance(value, float):
        return float(value)
    elif isinstance(value, bytes | bytearray):
        return bytes(value)[:limit]
    elif depth < _MAX_DEPTH:
        if isinstance(value, list | tuple | set | frozenset):
            return [_clean_value(v, count, limit, depth + 1) for v in list(value)[:_MAX_ITEMS]]
        if isinstance(value, dict):
            return {
                safe_str(k): _clean_value(v, count, limit, depth + 1)
                for k, v in list(value.items())[:_MAX_ITEMS]
            }
    count("values_changed", 1)
    text = safe_str(value)
    return text if limit is None else text[:limit]
