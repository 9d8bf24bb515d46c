"""The servers that a service needs: each is asked if it is there, and fit; nothing is changed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from afterglow.clock import SystemClock
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.sinks import in_postgres
from afterglow.config import KafkaInConfig, KafkaOutConfig
from afterglow.errors import MissingExtraError, NotAStoreError, SinkUnavailableError

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
    for name, kafka in (("kafka_in", settings.kafka_in), ("kafka_out", settings.kafka_out)):
        if kafka.bootstrap_servers:
            yield Server(name, partial(_kafka, kafka, settings))
    if settings.send.url:
        yield Server("send", partial(_otlp, settings))


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


def _kafka(kafka: KafkaInConfig | KafkaOutConfig, settings: ServeSettings) -> str:
    from afterglow.sink.kafka_reach import kafka_answers

    largest_bytes = settings.buffer.max_segment_bytes
    return kafka_answers(kafka, settings.serve.check_timeout_s, largest_bytes=largest_bytes)


def _otlp(settings: ServeSettings) -> str:
    from afterglow.sink.otlp_address import address_of, headers_of

    address = address_of(settings.send)
    headers_of(settings.send)
    try:
        with socket.create_connection(
            (address.host, address.port), timeout=settings.serve.check_timeout_s
        ):
            return f"{address.shown} takes connections"
    except OSError as error:
        raise SinkUnavailableError(
            f"{address.shown} takes no connection: {error.strerror or error}; what is sent waits "
            "on the disk until it does"
        ) from None
