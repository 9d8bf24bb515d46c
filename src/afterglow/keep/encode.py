"""What people give to store(), checked and in the form in which it is kept.

It happens at once, in store(): so what is changed in place afterwards changes nothing, and what
cannot be kept is refused to whoever brought it. Raises EntryError.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, Final

from afterglow.errors import EntryError, SettingError
from afterglow.keep.profile import ORIGINS, Kind, Profile

__all__ = [
    "can_be_id",
    "encode_embedding",
    "encode_payload",
    "known_kind",
    "known_origin",
    "least_strength",
    "share",
    "valid_id",
    "valid_tags",
    "valid_text",
    "whole",
]

_MOST_ID_CHARACTERS: Final = 512
_MOST_TEXT_CHARACTERS: Final = 4_096
_MOST_TAGS: Final = 256
_MOST_DIMENSIONS: Final = 65_536
#: What is nested deeper could be encoded here, and not be decoded deep in another program.
_MOST_DEPTH: Final = 200

_to_json: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode


def encode_payload(payload: object, max_bytes: int) -> str | bytes:
    """JSON text of any JSON value, or bytes as they are; tuples become lists."""
    if isinstance(payload, bytes | bytearray | memoryview):
        if memoryview(payload).nbytes > max_bytes:
            raise _too_large(memoryview(payload).nbytes, max_bytes)
        return bytes(payload)
    try:
        text = _to_json(payload)
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
        if size > max_bytes:
            raise _too_large(size, max_bytes)
        if text.count("[") + text.count("{") > _MOST_DEPTH:
            _check_depth(payload)
        if json.loads(text) != payload:
            _check_keys(payload, "payload")
    except EntryError:
        raise
    except UnicodeEncodeError:
        raise EntryError(
            "the payload holds a lone surrogate, which no encoding can carry; replace it, or "
            "store bytes"
        ) from None
    except RecursionError:
        raise EntryError("the payload is nested too deeply, or contains itself") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise EntryError(
            f"the payload is no JSON value: {error}; it takes None, booleans, numbers other than "
            "NaN and infinity, text, lists and mappings with text as keys, or bytes alone"
        ) from None
    return text


def _too_large(size: int, max_bytes: int) -> EntryError:
    return EntryError(
        f"the payload has {size:,} bytes, at most {max_bytes:,} are kept (max_entry_bytes): "
        "keep it elsewhere, and its address here"
    )


def _check_depth(payload: object) -> None:
    level: list[object] = [payload]
    for _ in range(_MOST_DEPTH):
        level = [inner for value in level for inner in _inner(value)]
        if not level:
            return
    raise EntryError(f"the payload is nested more than {_MOST_DEPTH} deep; flatten it")


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _check_keys(value: object, where: str) -> None:
    """Refuse keys that would come back as text; what differs besides is a list for a tuple."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise EntryError(
                    f"{where} has the key {key!r}, which is no text and would not come back as "
                    "it is; make it a str"
                )
            _check_keys(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_keys(inner, f"{where}[{index}]")


def encode_embedding(embedding: Iterable[float] | None) -> bytes | None:
    """Doubles, little-endian."""
    if embedding is None:
        return None
    try:
        vector = array("d", embedding)
    except (TypeError, OverflowError, ValueError):
        raise EntryError("the embedding is no sequence of numbers") from None
    if len(vector) > _MOST_DIMENSIONS:
        raise EntryError(
            f"the embedding has {len(vector):,} dimensions, at most {_MOST_DIMENSIONS:,} are kept"
        )
    if not all(map(math.isfinite, vector)):
        raise EntryError("the embedding holds NaN or infinity")
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def valid_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Texts in their order, each once."""
    if isinstance(tags, str):
        raise EntryError(f"tags={tags!r} is one text; give a list of tags: [{tags!r}]")
    try:
        found = tuple(dict.fromkeys(tags))
    except TypeError:
        raise EntryError("tags are no list of texts") from None
    if len(found) > _MOST_TAGS:
        raise EntryError(f"{len(found):,} tags are given, at most {_MOST_TAGS} are kept")
    return tuple(valid_text(tag, "a tag", _MOST_ID_CHARACTERS) for tag in found)


def valid_text(value: object, what: str, most: int = _MOST_TEXT_CHARACTERS) -> str:
    """A text that any encoding can carry; of a subclass of str, the text alone."""
    if not isinstance(value, str):
        raise EntryError(f"{what} is {value!r}, which is no text")
    if len(value) > most:
        raise EntryError(f"{what} has {len(value):,} characters, at most {most:,} are kept")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise EntryError(f"{what} holds a lone surrogate: {value!r}") from None
    return str(value) if type(value) is str else str.__str__(value)


def valid_id(value: object, what: str) -> str:
    """A text that can be a key: not empty, without NUL."""
    text = valid_text(value, what, _MOST_ID_CHARACTERS)
    if not text or "\0" in text:
        raise EntryError(
            f"{what} is {text!r}: it takes 1 to {_MOST_ID_CHARACTERS} characters, no NUL"
        )
    return text


def can_be_id(value: object) -> bool:
    """Whether anything can be kept under it: what cannot need not be looked for."""
    try:
        return bool(valid_id(value, "an id"))
    except EntryError:
        return False


def known_kind(profile: Profile, kind: str) -> Kind:
    """What the profile says of a kind."""
    found = profile.kinds.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise EntryError(
            f"unknown kind {kind!r}: the profile {profile.name!r} has {_listed(profile.kinds)}"
        )
    return found


def known_origin(origin: str) -> str:
    """One of the origins."""
    if origin not in ORIGINS:
        raise EntryError(f"unknown origin {origin!r}: there are {_listed(ORIGINS)}")
    return origin


def share(value: object, what: str) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise EntryError(f"{what}={value!r} is not a number from 0 to 1")
    return float(value)


def whole(value: Any, what: str) -> int:
    """A whole number from 0. Raises SettingError."""
    try:
        number = index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number < 0:
        raise SettingError(f"{what}={value!r} is no whole number from 0")
    return number


def least_strength(value: object) -> float:
    """A threshold, any number but NaN. Raises SettingError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise SettingError(f"min_strength={value!r} is no number; strengths are 0 to 1")
    return value


def _listed(names: Iterable[str]) -> str:
    listed: Sequence[Any] = sorted(names) if not isinstance(names, tuple) else names
    return ", ".join(listed)
