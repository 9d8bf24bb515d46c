"""`afterglow settings`: each setting, its value now, and where that came from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from afterglow.config import ROOMS, Setting, described, from_environment, load
from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import shorten

__all__ = ["print_settings", "settings_now", "without_password"]

#: Up to the last @, for a password may hold / and @ itself.
_PASSWORD: Final = re.compile(r"(?<=://).*(?=@)|(?<=[?&]password=)[^&]*")


#: A list of names may be of any length; `--json` has all of it.
_WIDEST_VALUE: Final = 26


def settings_now(environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """One dict a setting: room, name, value, unit, default, source, environment, why.

    `source` is the environment variable that gave the value, or "default". Raises
    SettingError for an environment variable that cannot be used.
    """
    environ = os.environ if environment is None else environment
    found: list[dict[str, Any]] = []
    for room in ROOMS:
        values = load(room, {}, environ)
        for name, kind, default, setting in described(room):
            given = from_environment(kind, setting, environ)
            source = "default" if given is None else given[0]
            found.append(
                {
                    "room": room.__name__.removesuffix("Config").lower(),
                    "name": name,
                    "value": _told(getattr(values, name), setting),
                    "unit": setting.unit,
                    "default": default,
                    "source": source,
                    "environment": setting.env,
                    "why": setting.why,
                }
            )
    return found


def _told(value: object, setting: Setting) -> object:
    """A value as it may be shown: of a secret only that there is one, and no passwords of URLs."""
    if setting.secret:
        return "(set)" if value else value
    return without_password(value) if isinstance(value, str) else value


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return _PASSWORD.sub("***", url)


def print_settings(screen: Screen, settings: list[dict[str, Any]]) -> None:
    """A table; what is not the default stands out. Wide screens get the reasons, too."""
    with_why = screen.width is None or screen.width >= 150
    rows = []
    for setting in settings:
        changed = setting["source"] != "default"
        source = setting["source"] if changed else setting["environment"][0]
        row = [
            Text(setting["name"], "bold" if changed else ""),
            _value_cell(setting, changed),
            Text(source, styles.WARM if changed else styles.QUIET),
        ]
        rows.append([*row, Text(setting["why"], styles.QUIET)] if with_why else row)
    if screen.width is not None:
        for row in rows:
            row[1] = _shortened(row[1], _WIDEST_VALUE, screen)
        if not with_why:
            _fit_names(rows, screen)
    columns = [
        Column("setting", right=False),
        Column("value", right=False),
        Column("from, or set it by", right=False),
    ]
    screen.grid([*columns, Column("why", right=False)] if with_why else columns, rows)


def _fit_names(rows: list[list[Text]], screen: Screen) -> None:
    """Names give way: what a person types in is the variable, and it stays whole."""
    values, variables = (max(row[i].cell_len for row in rows) for i in (1, 2))
    room = max((screen.width or 0) - values - variables - 4, 12)
    for row in rows:
        row[0] = _shortened(row[0], room, screen)


def _shortened(cell: Text, width: int, screen: Screen) -> Text:
    if cell.cell_len <= width:
        return cell
    return Text(shorten(cell.plain, width, mark=screen.glyphs.cut), cell.style)


def _value_cell(setting: Mapping[str, Any], changed: bool) -> Text:
    shown = _shown(setting["value"])
    cell = Text().append(shown, styles.WARM if changed else "")
    return cell if shown == "-" else cell.append(f" {setting['unit']}", styles.QUIET)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value) or "-"
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
