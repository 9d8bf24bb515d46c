"""What a setting is, and how a room's settings come from arguments, environment and defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from afterglow.errors import SettingError

__all__ = [
    "Setting",
    "check_value",
    "checked",
    "described",
    "from_environment",
    "load",
    "room_fields",
]

logger = logging.getLogger("afterglow")


class Setting(msgspec.Struct, frozen=True):
    """What a person must know of one setting; `env` holds its names, ours first.

    Limits are of numbers, and of the length of texts. A `secret` is never shown. Variables in
    `env_ms` say it in milliseconds, where the setting is in seconds.
    """

    unit: str
    why: str
    env: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    secret: bool = False
    env_ms: tuple[str, ...] = ()


Room = TypeVar("Room", bound=msgspec.Struct)


@cache
def described(room: type[msgspec.Struct]) -> tuple[tuple[str, Any, object, Setting], ...]:
    """Name, type, default and description of each setting of a room."""
    return tuple(_described(room))


def _described(room: type[msgspec.Struct]) -> Iterator[tuple[str, Any, object, Setting]]:
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
    room: type[Room],
    arguments: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
    *,
    base: Mapping[str, object] | None = None,
) -> Room:
    """A room's settings from arguments, environment and defaults.

    Arguments that are None count as not given. `base` are checked values that stand between
    environment and defaults, those of a file. Raises SettingError, which names the setting
    and where the value came from; an empty environment variable counts as not set. What an
    `OTEL_...` variable says is left out where it cannot be used, and a warning says so: as the
    OpenTelemetry specification asks.
    """
    environ = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for name, kind, _default, setting in described(room):
        given = arguments.get(name)
        if given is not None:
            values[name] = _checked(given, name, kind, setting, strict=True)
            continue
        found = from_environment(kind, setting, environ)
        if found is not None:
            values[name] = found[1]
        elif base is not None and name in base:
            values[name] = base[name]
    return room(**values)


def check_value(value: object, name: str, kind: Any, setting: Setting) -> object:
    """One value as `described` describes it. Raises SettingError, which calls it `name`."""
    return _checked(value, name, kind, setting, strict=True)


def checked(settings: Room) -> Room:
    """Settings that somebody made by hand. Raises SettingError for a value that `load` refuses."""
    for name, kind, _default, setting in described(type(settings)):
        _checked(getattr(settings, name), name, kind, setting, strict=True)
    return settings


def from_environment(
    kind: Any, setting: Setting, environ: Mapping[str, str]
) -> tuple[str, Any] | None:
    """The variable that gives a setting its value, and the value; None where none does."""
    for variable in setting.env:
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            value = _checked(_split(text, kind), variable, kind, setting, strict=False)
        except SettingError as error:
            if not variable.startswith("OTEL_"):
                raise
            _warn_once(f"{error}; it is left out")
            continue
        return variable, value
    return None


#: Several tracers of a process read the same environment.
_warned: set[str] = set()


def _warn_once(line: str) -> None:
    if line not in _warned:
        _warned.add(line)
        logger.warning("%s", line)


def _split(text: str, kind: Any) -> object:
    return tuple(filter(None, text.split(","))) if get_origin(kind) is tuple else text


def _checked(value: object, name: str, kind: Any, setting: Setting, *, strict: bool) -> Any:
    # Arguments are strict but for int -> float; the environment only has text.
    try:
        result: Any = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        given = name if setting.secret else f"{name}={value!r}"
        raise SettingError(f"{given} is not {_words(kind)}") from None
    if name in setting.env_ms:
        result = result / 1_000
    _check_limits(result, name, setting)
    return result


def _check_limits(value: object, name: str, setting: Setting) -> None:
    low, high = setting.low, setting.high
    if isinstance(value, str) and low is not None and high is not None:
        if not low <= len(value) <= high:
            raise SettingError(
                f"{name} has {len(value):,} characters: it takes {low:,} to {high:,} of them"
            )
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    # "not (low <= x)" rather than "x < low", so that NaN is refused too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise SettingError(
            f"{name}={value!r} is out of range: it takes {low:,} to {high:,} {setting.unit}"
        )


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a list of texts"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kinds = [names[k] for k in (get_args(kind) or (kind,)) if k in names]
    return " or ".join(kinds)
