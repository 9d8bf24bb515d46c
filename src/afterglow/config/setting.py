"""What a setting is, and how a room's settings come from arguments, environment and defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from afterglow.errors import SettingError

__all__ = ["Setting", "described", "load", "room_fields"]


class Setting(msgspec.Struct, frozen=True):
    """What a person must know of one setting; `env` holds its names, ours first."""

    unit: str
    why: str
    env: tuple[str, ...]
    low: float | None = None
    high: float | None = None


Room = TypeVar("Room", bound=msgspec.Struct)


def described(room: type[msgspec.Struct]) -> Iterator[tuple[str, Any, object, Setting]]:
    """Name, type, default and description of each setting of a room."""
    hints = get_type_hints(room, include_extras=True)
    defaults = dict(zip(room.__struct_fields__[::-1], room.__struct_defaults__[::-1], strict=False))
    for name in room.__struct_fields__:
        kind, *notes = get_args(hints[name])
        (setting,) = (note for note in notes if isinstance(note, Setting))
        yield name, kind, defaults[name], setting


def room_fields(*rooms: type[msgspec.Struct]) -> frozenset[str]:
    """The names of all settings of some rooms."""
    return frozenset(name for room in rooms for name in room.__struct_fields__)


def load(
    room: type[Room], arguments: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> Room:
    """A room's settings from arguments, environment and defaults.

    Arguments that are None count as not given. Raises SettingError, which names the setting
    and where the value came from; an empty environment variable counts as not set.
    """
    environ = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for name, kind, _default, setting in described(room):
        given = arguments.get(name)
        if given is not None:
            values[name] = _checked(given, name, kind, setting, strict=True)
            continue
        for variable in setting.env:
            text = environ.get(variable, "").strip()
            if text:
                values[name] = _checked(_split(text, kind), variable, kind, setting, strict=False)
                break
    return room(**values)


def _split(text: str, kind: Any) -> object:
    return tuple(filter(None, text.split(","))) if get_origin(kind) is tuple else text


def _checked(value: object, name: str, kind: Any, setting: Setting, *, strict: bool) -> Any:
    # Arguments are strict but for int -> float; the environment only has text.
    try:
        result: Any = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        raise SettingError(f"{name}={value!r} is not {_words(kind)}") from None
    if isinstance(result, int | float) and not isinstance(result, bool):
        low, high = setting.low, setting.high
        # "not (low <= x)" rather than "x < low", so that NaN is refused too.
        if (low is not None and not result >= low) or (high is not None and not result <= high):
            raise SettingError(
                f"{name}={result!r} is out of range: it takes {low:,} to {high:,} {setting.unit}"
            )
    return result


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a list of texts"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kinds = [names[k] for k in (get_args(kind) or (kind,)) if k in names]
    return " or ".join(kinds)
