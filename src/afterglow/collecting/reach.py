"""The servers that a service needs: each is asked if it is there, and fit; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from afterglow.clock import SystemClock
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.sinks import in_postgres
from afterglow.errors import MissingExtraError, NotAStoreError

__all__ = ["Server", "postgres_answers", "reachable"]


class Server(NamedTuple):
    """One of them; `look` says what it found, or raises an AfterglowError."""

    name: str
    look: Callable[[], str]


def reachable(settings: ServeSettings) -> Iterator[Server]:
    """All servers that the settings name."""
    if not settings.is_embedded:
        yield Server("buffer", partial(_redis, settings))
    if in_postgres(settings) is not None:
        yield Server("store", partial(postgres_answers, settings))


def _redis(settings: ServeSettings) -> str:
    from afterglow import buffering

    return buffering.looked_at(settings.buffer)


def postgres_answers(settings: ServeSettings) -> str:
    """Connect, and look for our tables. Raises StoreError, SettingError, MissingExtraError."""
    try:
        from afterglow.store.postgres.connections import Connections
        from afterglow.store.postgres.schema import migrate_spans
    except ImportError:
        raise MissingExtraError("keeping spans in PostgreSQL", "postgres") from None
    connections = Connections(
        in_postgres(settings) or "",
        limit=1,
        connect_timeout_s=settings.serve.check_timeout_s,
        patience_s=0.0,
        clock=SystemClock(),
    )
    try:
        with connections.lent() as connection:
            migrate_spans(connection, connections.place, read_only=True)
    except NotAStoreError:
        return f"{connections.place} answers; the tables will be made"
    finally:
        connections.close()
    return f"{connections.place} answers, its tables are there"
