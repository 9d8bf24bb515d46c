"""What many tests share: a tracer on a list, and spans by name."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import afterglow
from afterglow.model.span import Span
from afterglow.record.context import current
from afterglow.testing import ListSink

# Names that pytest gives to all tests; the servers behind them start when a test asks.
pytest_plugins = ["tests.servers"]

# A shell starts what it puts into the background (`make test &`) with SIGINT ignored, and programs
# that a test starts and interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Recording:
    """A tracer whose spans can be looked at; `spans()` flushes first."""

    def __init__(self, **settings: Any) -> None:
        self.sink = ListSink()
        self.tracer = afterglow.Tracer(self.sink, **settings)

    def spans(self) -> list[Span]:
        assert self.tracer.flush()
        return self.sink.spans

    def by_name(self) -> dict[str, Span]:
        spans = self.spans()
        named = {span.name: span for span in spans}
        assert len(named) == len(spans), "two spans of one name"
        return named

    def one(self) -> Span:
        (span,) = self.spans()
        return span


@pytest.fixture
def make_recording() -> Iterator[Callable[..., Recording]]:
    """Recordings with settings; closed, and their books balanced, at the end of the test."""
    made: list[Recording] = []

    def make(**settings: Any) -> Recording:
        recording = Recording(**settings)
        made.append(recording)
        return recording

    yield make
    for recording in made:
        recording.tracer.close()
        books = recording.tracer.ledger()
        assert books["in_flight"] == 0
        assert books["recorded"] == books["written"] + sum(books["dropped"].values())
        assert books["written"] == len(recording.sink.spans)


@pytest.fixture
def recording(make_recording: Callable[..., Recording]) -> Recording:
    return make_recording()


@pytest.fixture(autouse=True)
def nothing_stays_current(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.config.getoption("afterglow", None):
        yield  # under `pytest --afterglow` each test has a span of its own
        return
    assert current.get() is None
    yield
    assert current.get() is None, "the test left a span current"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is a child of the caller's trace, or has the caller's settings."""
    import os

    for name in list(os.environ):
        if name.startswith(("AFTERGLOW_", "OTEL_")) or name in ("TRACEPARENT", "TRACESTATE"):
            monkeypatch.delenv(name)
