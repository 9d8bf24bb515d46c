"""The file of `afterglow serve --config`: TOML, one table a room.

It stands between the defaults and the environment: default < file < environment < flags. All of it
is checked when it is read, so that a mistake is found before anything starts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from afterglow.config.setting import check_value, described, room_fields
from afterglow.errors import SettingError

__all__ = ["Tables", "read_settings_file"]

#: The rooms by the name of their table.
Tables = Mapping[str, type[msgspec.Struct]]

#: More than this is no file of settings.
_MOST_BYTES: Final = 1 << 20


def read_settings_file(
    path: str | os.PathLike[str], tables: Tables
) -> dict[str, dict[str, object]]:
    """The checked values by table and key.

    Raises SettingError, one line with file, table and key, for a file that cannot be read or is no
    TOML, for a table or key that there is none of, and for a value that cannot be used.
    """
    document = _parsed(path, tables)
    found: dict[str, dict[str, object]] = {}
    for table, keys in document.items():
        room = tables.get(table)
        if room is None:
            raise SettingError(f"{path}: {_unknown_table(table, keys, tables)}")
        if not isinstance(keys, dict):
            raise SettingError(f"{path}: {table} is a table: write [{table}] and its keys below it")
        found[table] = _values(f"{path}: [{table}]", keys, room, tables)
    return found


def _parsed(path: str | os.PathLike[str], tables: Tables) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingError(f"cannot read the settings in {path}: {error.strerror}") from None
    if len(text) > _MOST_BYTES:
        raise SettingError(f"{path} is larger than 1 MiB: this is no file of settings")
    try:
        return tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is no UTF-8 text (byte {error.start})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        example = next(iter(tables))
        raise SettingError(
            f"{path} is no TOML: {error}; tables look like [{example}], keys like name = 1"
        ) from None


def _values(
    where: str, keys: Mapping[str, object], room: type[msgspec.Struct], tables: Tables
) -> dict[str, object]:
    known = {name: (kind, setting) for name, kind, _default, setting in described(room)}
    values: dict[str, object] = {}
    for key, value in keys.items():
        if key not in known:
            raise SettingError(f"{where} has no {key!r}: {_where_it_is(key, known, tables)}")
        kind, setting = known[key]
        try:
            values[key] = check_value(value, key, kind, setting)
        except SettingError as error:
            raise SettingError(f"{where} {error}") from None
    return values


def _unknown_table(table: str, keys: object, tables: Tables) -> str:
    if not isinstance(keys, dict):
        homes = _homes(table, tables)
        if homes:
            return f"{table!r} stands outside of a table: it belongs under {homes}"
    near = _nearest(table, tables)
    hint = f"did you mean [{near}]?" if near else f"there are {_listed(tables)}"
    return f"there is no table [{table}]: {hint}"


def _where_it_is(key: str, known: Iterable[str], tables: Tables) -> str:
    homes = _homes(key, tables)
    if homes:
        return f"it belongs under {homes}"
    near = _nearest(key, known)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"there are {', '.join(sorted(known))}"


def _homes(key: str, tables: Tables) -> str:
    """The tables that have this key, as `[a] or [b]`; empty if none has."""
    return " or ".join(f"[{table}]" for table, room in tables.items() if key in room_fields(room))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    names = list(known)
    close = get_close_matches(name, names, n=1)
    # `max_bytes` for `keep_max_bytes`: a name without its first word.
    return close[0] if close else next((n for n in names if n.endswith(f"_{name}")), None)


def _listed(tables: Tables) -> str:
    return ", ".join(f"[{table}]" for table in tables)
