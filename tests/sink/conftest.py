"""A real backend for what sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sink.backend import Backend


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend().start()
    yield backend
    backend.stop()
