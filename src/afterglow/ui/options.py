"""What commands share: the database they are about, the project in it, and --json."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["as_json", "database", "path_of", "place_of", "project", "project_of"]

database = click.argument("database", required=False, metavar="[DB]")
project = click.option(
    "--project",
    metavar="NAME",
    help="Whose spans, of those that were received for several projects.  [default: default]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def place_of(name: str | None, project: str | None) -> Path | str:
    """The file of a project, or the URL of a server, that was named or is in the settings."""
    if name is None:
        from afterglow.config import RunConfig, load

        name = load(RunConfig, {}).database
    if "://" in name:
        return name
    from afterglow.sink.project_files import project_path

    return project_path(Path(name), project_of(project))


def project_of(project: str | None) -> str:
    """The project that was named, or the one of the settings."""
    if project is not None:
        return project
    from afterglow.config import StoreConfig, load

    return load(StoreConfig, {}).store_project


def path_of(name: str | None) -> Path:
    """The file that was named, or the one of the settings. Raises SettingError for a URL."""
    place = place_of(name, "default")
    if isinstance(place, Path):
        return place
    from afterglow.errors import SettingError

    raise SettingError("this needs a file: name one, for it does not work on a server")
