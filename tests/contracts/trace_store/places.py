"""Where a trace store may live: each back end that keeps the contract, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from afterglow.keep.backend import Backend
from afterglow.keep.sqlite.backend import SqliteBackend

__all__ = ["PLACES", "Place"]


class Place(Protocol):
    """One database, empty when a test begins."""

    def backend(self, partition: str = "default", **options: Any) -> Backend:
        """A new back end, as another process would open it; the caller closes it."""
        ...


class SqlitePlace:
    """A file of the test's own."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        folder: Path = request.getfixturevalue("tmp_path")
        self.path = folder / "memory.db"

    def backend(self, partition: str = "default", **options: Any) -> Backend:
        return SqliteBackend(self.path, partition, **options)


#: A back end joins the contract with a line here.
PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {"sqlite": SqlitePlace}
