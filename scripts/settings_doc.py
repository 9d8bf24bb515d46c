"""Write docs/settings.md from config/; `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from afterglow import config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

Generated from `src/afterglow/config/` by `make docs`; change it there.

A value comes from, in this order: the keyword of the constructor (or the option of the command
line), the environment variables in the order they are listed, the file of
`afterglow serve --config` (where a class says which table it is there), the default. An empty
variable counts as not set. A value that cannot be used stops the constructor with a
`SettingError` that names the setting and says what it takes; but what an `OTEL_...` variable says
is then left out, with a warning, as the OpenTelemetry specification asks.
"""


def words(kind: Any) -> str:
    """A type in plain words."""
    if get_origin(kind) is Literal:
        return " / ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "texts, separated by commas"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(words(part) for part in get_args(kind))
    names = {bool: "true / false", int: "whole number", float: "number", str: "text"}
    return names.get(kind, "none")


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}`" if value < 10_000 else f"`{int(value)}` ({value:,})"
    return "none" if value in (None, (), "") else f"`{value}`"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    tables = {room: table for table, room in config.TABLES.items()}
    for room in config.ROOMS:
        parts.append(f"\n## {room.__name__}\n\n{(room.__doc__ or '').strip()}\n")
        if room in tables:
            parts.append(f"\nIn the file of `afterglow serve`: `[{tables[room]}]`.\n")
        for name, kind, value, setting in config.described(room):
            limits = f"; {number(setting.low)} to {number(setting.high)}" if setting.high else ""
            unit = f" ({setting.unit})" if setting.unit and value is not None else ""
            variables = ", ".join(
                f"`{variable}`" + (" (in ms)" if variable in setting.env_ms else "")
                for variable in setting.env
            )
            parts.append(
                f"\n### {name}\n\n{setting.why}\n\n"
                f"* default: {default(value)}{unit}\n"
                f"* takes: {words(kind)}{limits}\n"
                f"* environment: {variables}\n"
            )
    return "".join(parts)


def main() -> None:
    wanted = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != wanted:
            sys.exit("docs/settings.md is not what config/ says: run `make docs`")
        return
    PAGE.write_text(wanted)


if __name__ == "__main__":
    main()
