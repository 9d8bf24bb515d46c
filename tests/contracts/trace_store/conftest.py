"""Stores on each back end in turn, on a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from afterglow.config import KeepConfig
from afterglow.keep.backend import Backend
from afterglow.keep.profile import MEMORY, Profile
from afterglow.keep.store import TraceStore
from afterglow.testing import ManualClock
from tests.contracts.trace_store.failing import Stopping
from tests.contracts.trace_store.places import PLACES, Place


class Stores:
    """Opens stores of one database; each is like another process."""

    def __init__(self, place: Place, clock: ManualClock) -> None:
        self.place = place
        self.clock = clock
        self.opened: list[TraceStore] = []

    def __call__(
        self,
        partition: str = "default",
        profile: Profile = MEMORY,
        *,
        backend: Backend | None = None,
        **config: Any,
    ) -> TraceStore:
        store = TraceStore(
            backend or self.place.backend(partition),
            profile,
            config=KeepConfig(**config),
            clock=self.clock,
            maintenance=False,
        )
        self.opened.append(store)
        return store


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param](request)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def stores(place: Place, clock: ManualClock) -> Iterator[Stores]:
    opened = Stores(place, clock)
    yield opened
    for store in opened.opened:
        store.close(discard=True)


@pytest.fixture
def store(stores: Stores) -> TraceStore:
    return stores()


@pytest.fixture
def stopping(place: Place) -> Stopping:
    """A back end that can be held up."""
    return Stopping(place.backend())
