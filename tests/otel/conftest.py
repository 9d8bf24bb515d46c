"""Providers that record into a list, and are shut down, with their books checked, at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afterglow.model.span import Span
from afterglow.otel import TracerProvider
from afterglow.testing import ListSink


class Provided:
    """A provider on a list; `stored()` is what the writer made of its spans."""

    def __init__(self, **arguments: Any) -> None:
        self.sink = ListSink()
        self.provider = TracerProvider(database=self.sink, **arguments)
        self.tracer = self.provider.get_tracer("tests", "1.0")

    def stored(self) -> list[Span]:
        assert self.provider.force_flush()
        return self.sink.spans

    def by_name(self) -> dict[str, Span]:
        return {span.name: span for span in self.stored()}


@pytest.fixture
def make_provided() -> Iterator[Callable[..., Provided]]:
    made: list[Provided] = []

    def make(**arguments: Any) -> Provided:
        made.append(Provided(**arguments))
        return made[-1]

    yield make
    for provided in made:
        provided.provider.shutdown()
        books = provided.provider.ledger()
        assert books["in_flight"] == 0
        assert books["recorded"] == books["written"] + sum(books["dropped"].values())
        assert books["written"] == len(provided.sink.spans)


@pytest.fixture
def provided(make_provided: Callable[..., Provided]) -> Provided:
    return make_provided()
