"""Opens what a person named: a file of spans, or a project on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from afterglow.config import RetentionConfig, ServersConfig, load
from afterglow.errors import AfterglowError, MissingExtraError, SettingError
from afterglow.model.span import trace_id_hex

if TYPE_CHECKING:
    from afterglow.keep.keeper import Keeper
    from afterglow.store.postgres.read import PostgresDatabase
    from afterglow.store.read import Database

__all__ = ["looked_at", "open_keeper", "open_store", "shown"]


def open_store(
    place: Path | str, project: str, *, progress: Callable[[int, int], None] | None = None
) -> Database:
    """Open spans for reading: a project's file, or that project at a URL, which answers alike.

    Raises SettingError, StoreError, NotFoundError, and MissingExtraError without psycopg.
    """
    from afterglow import wiring

    if isinstance(place, Path):
        return wiring.open_database(place, progress=progress)
    if not place.startswith(("postgresql://", "postgres://")):
        raise SettingError(
            f"{shown(place)} is no database: name a file, or postgresql://HOST/DATABASE"
        )
    try:
        from afterglow.store.postgres.read import PostgresDatabase
    except ImportError:
        raise MissingExtraError("spans in PostgreSQL", "postgres") from None
    if load(RetentionConfig, {}).keep_when_read:
        with open_keeper(place, project) as keeper:
            keeper.step()
    timeout_s = load(ServersConfig, {}).postgres_connect_timeout_s
    opened = PostgresDatabase(place, project, connect_timeout_s=timeout_s)
    return cast("Database", opened)


def open_keeper(place: Path | str, project: str, **settings: Any) -> Keeper:
    """Open the same to let traces fade; `settings` are RetentionConfig's."""
    from afterglow import wiring
    from afterglow.keep import opening

    if isinstance(place, Path):
        return wiring.open_retention(place, **settings)
    return opening.open_keeper(place, project, load(RetentionConfig, settings))


def looked_at(database: Database | PostgresDatabase, trace_ids: Iterable[int]) -> None:
    """Somebody looked at these traces: they stay longer, where `afterglow keep` knows them. It
    never fails: looking needs no writing."""
    from afterglow import wiring
    from afterglow.keep import opening

    path = getattr(database, "path", None)
    if path is not None:
        wiring.looked_at(path, trace_ids)
        return
    config = load(RetentionConfig, {})
    ids = {trace_id_hex(trace) for trace in trace_ids}
    url, project = getattr(database, "url", ""), getattr(database, "project", "")
    if config.keep_looks and ids:
        with suppress(AfterglowError), opening.open_keeper(url, project, config, wait=False) as k:
            k.reinforce(ids)


def shown(place: Path | str) -> str:
    """What a person is told of it: a URL without user and password."""
    if isinstance(place, Path):
        return str(place)
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
