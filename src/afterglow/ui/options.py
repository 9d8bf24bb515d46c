"""What commands share: the database they are about, and --json."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["as_json", "database", "path_of"]

database = click.argument("database", required=False, metavar="[DB]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def path_of(name: str | None) -> Path:
    """The database that was named, or the one of the settings."""
    if name is not None:
        return Path(name)
    from afterglow.config import RunConfig, load

    return Path(load(RunConfig, {}).database)
