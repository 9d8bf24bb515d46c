"""Each test of this suite runs on SQLite files and on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.span_store.stores import FileStore, ServerStore, SpanStore


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SpanStore:
    if request.param == "sqlite":
        return FileStore(tmp_path)
    return ServerStore(request.getfixturevalue("postgres"))


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def server_store(postgres: str) -> ServerStore:
    return ServerStore(postgres)
