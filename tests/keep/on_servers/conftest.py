"""Back ends in PostgreSQL, closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afterglow.keep.postgres.backend import PostgresBackend


@pytest.fixture
def open_postgres(postgres: str) -> Iterator[Callable[..., PostgresBackend]]:
    """Back ends of the test's database, by partition."""
    opened: list[PostgresBackend] = []

    def open_one(partition: str = "default", **options: Any) -> PostgresBackend:
        backend = PostgresBackend(options.pop("url", postgres), partition, **options)
        opened.append(backend)
        return backend

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(open_postgres: Callable[..., PostgresBackend]) -> PostgresBackend:
    return open_postgres()
