"""Attributes, events and links as jsonb takes them, and back.

It is the JSON of store/attributes.py, changed where jsonb would refuse a value or give back
another one: it holds no NUL (escaped, see text.py), and its numbers are decimal, so 1e300 and -0.0
are written as {"$float": "1e300"}. What is too large for a value is left out, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import copysign
from typing import Any, Final

import msgspec

from afterglow.model.span import Event, Link, span_id_hex, trace_id_hex
from afterglow.store.attributes import decode_attributes, encode_attributes
from afterglow.store.postgres.text import kept, read

__all__ = ["attributes_json", "events_json", "fitting", "links_json", "plain_json",
           "read_attributes", "read_events", "read_links"]  # fmt: skip

#: jsonb takes 256 MiB in one text, and the whole value must fit into a row of 1 GiB.
_LARGEST: Final = 64 << 20
_DEEPEST: Final = 64
#: What may have to be changed: escaped control characters, exponents, negative zero. It may also
#: stand in a text, where nothing is changed then.
_ODD: Final = re.compile(r"\\u00|[0-9]e[-+0-9]|-0\.0")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def plain_json(attributes: Mapping[str, Any]) -> str:
    """One span's attributes as any JSON has them, whatever is in them."""
    try:
        return encode_attributes(attributes)
    except (UnicodeEncodeError, RecursionError, OverflowError, TypeError, ValueError):
        return encode_attributes(_cleaned(attributes, 0))


def fitting(text: str) -> str:
    """JSON text of an object that jsonb gives back as it was."""
    if len(text) > _LARGEST:
        return f'{{"afterglow.too_large":{len(text)}}}'
    if _ODD.search(text) is None:
        return text
    return _encode(_fitting(_decode(text))).decode()


def attributes_json(attributes: Mapping[str, Any]) -> str:
    """One set of attributes."""
    return fitting(plain_json(attributes)) if attributes else "{}"


def events_json(events: Sequence[Event]) -> str:
    """An array of [name, time_ns, attributes, dropped_attributes]."""
    return _array(
        f"[{_text(e.name)},{e.time_ns},{attributes_json(e.attributes)},{e.dropped_attributes}]"
        for e in events
    )


def links_json(links: Sequence[Link]) -> str:
    """An array of [trace id, span id, trace state, attributes, dropped_attributes]."""
    return _array(
        f'["{trace_id_hex(k.trace_id)}","{span_id_hex(k.span_id)}",{_text(k.trace_state)},'
        f"{attributes_json(k.attributes)},{k.dropped_attributes}]"
        for k in links
    )


def _array(parts: Any) -> str:
    chosen: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > _LARGEST:
            break  # the others do not fit into one row
        chosen.append(part)
    return f"[{','.join(chosen)}]"


def _text(text: str) -> str:
    return _encode(kept(text)).decode()


def _fitting(value: Any) -> Any:
    if isinstance(value, str):
        return kept(value)
    if isinstance(value, float):
        written = repr(value)
        odd = "e" in written or (value == 0 and copysign(1, value) < 0)
        return {"$float": written} if odd else value
    if isinstance(value, list):
        return [_fitting(item) for item in value]
    if isinstance(value, dict):
        return {kept(key): _fitting(item) for key, item in value.items()}
    return value


def _cleaned(value: Any, depth: int) -> Any:
    """Without what UTF-8 has not, and no deeper than PostgreSQL's parser goes."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_cleaned(str(k), 0): _cleaned(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, depth + 1) for item in value]
    return value if isinstance(value, bool | int | float | bytes | None) else str(value)


# --- back ---------------------------------------------------------------------------------


def read_attributes(text: str) -> dict[str, Any]:
    """The attributes of a column's text."""
    found = decode_attributes(text)
    # A text that holds SUB was written with its escape.
    return _read(found) if "\\u001a" in text else found


def _read(value: Any) -> Any:
    if isinstance(value, str):
        return read(value)
    if isinstance(value, list):
        return [_read(item) for item in value]
    if isinstance(value, dict):
        return {read(key): _read(item) for key, item in value.items()}
    return value


def read_events(text: str | None) -> tuple[Event, ...]:
    """The events of a column's text."""
    if text is None:
        return ()
    return tuple(
        Event(read(name), time_ns, read_attributes(_encode(attributes).decode()), dropped)
        for name, time_ns, attributes, dropped in _decode(text)
    )


def read_links(text: str | None) -> tuple[Link, ...]:
    """The links of a column's text."""
    if text is None:
        return ()
    return tuple(
        Link(int(trace, 16), int(span, 16), read(state),
             read_attributes(_encode(attributes).decode()), dropped)
        for trace, span, state, attributes, dropped in _decode(text)
    )  # fmt: skip
