"""A writer on a clock moved by hand, without a thread unless a test starts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afterglow.clock import Clock, SystemClock
from afterglow.config import RecordConfig, WriteConfig
from afterglow.errors import UnencodableError
from afterglow.handover import Handover
from afterglow.ledger import balanced
from afterglow.model.flat import SPAN_ID, WIDTH, Extra, Flat
from afterglow.model.run import Process
from afterglow.ports import SpanBatch, SpanSink
from afterglow.testing import ListSink, ManualClock
from afterglow.write.writer import Writer

WHERE = (7, "MainThread")

PROCESS = Process(
    run_id="run", pid=1, parent_pid=0, argv=("prog",), host="here", start_ns=1, resource={"a": "b"}
)


def record(
    span_id: int,
    *,
    name: Any = "work",
    start: int = 5,
    end: int | None = 9,
    attributes: Any = None,
    extra: Extra | None = None,
    parent: int = 0,
) -> tuple[Any, ...]:
    """What a tracer hands over when a span ends."""
    values = {} if attributes is None else attributes
    return (span_id, span_id, parent, name, start, end, values, WHERE, extra)


class Rig:
    """A writer, all that it stands between, and what it was told and says."""

    def __init__(self, sink: SpanSink, clock: Clock | None = None, **settings: Any) -> None:
        record_names = RecordConfig.__struct_fields__
        self.clock = clock or ManualClock()
        self.sink = sink
        self.config = WriteConfig(**{k: v for k, v in settings.items() if k not in record_names})
        self.handover = Handover(self.config)
        self.open: Flat = []
        self.counts: dict[str, int] = {}
        self.process = PROCESS
        self.said: list[str] = []
        self.cutoffs: list[int] = []
        self._next_id = 0
        self.writer = Writer(
            self.handover,
            sink,
            process=lambda: self.process,
            seed=lambda: 42,
            open_rows=self._open_rows,
            counts=lambda: self.counts,
            record=RecordConfig(**{k: v for k, v in settings.items() if k in record_names}),
            config=self.config,
            clock=self.clock,
            report=self.said.append,
        )

    def _open_rows(self, begun_before_ns: int) -> Flat:
        self.cutoffs.append(begun_before_ns)
        return list(self.open)

    def put(self, spans: int = 1, **values: Any) -> None:
        for _ in range(spans):
            self._next_id += 1
            self.handover.put(record(self._next_id, **values))

    def advance(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance_s(seconds)

    def step_until_idle(self) -> None:
        while self.writer.step():
            pass

    @property
    def ledger(self) -> Any:
        return self.handover.ledger()


@pytest.fixture
def rig() -> Iterator[Callable[..., Any]]:
    """Rigs; at the end of the test each is closed, and its books must balance to nothing."""
    made: list[Rig] = []

    def make(sink: SpanSink | None = None, **settings: Any) -> Rig:
        made.append(Rig(sink or ListSink(), **settings))
        return made[-1]

    yield make
    for one in made:
        if isinstance(one.clock, SystemClock):
            one.writer.close()
        assert balanced(one.ledger)


Make = Callable[..., Rig]


def span_ids(sink: ListSink) -> list[int]:
    return [span.span_id for span in sink.spans]


class PickySink(ListSink):
    """Cannot encode spans of some ids, whatever is done to them; counts what it is asked."""

    def __init__(self, *guilty: int, error: Callable[[], Exception] | None = None) -> None:
        super().__init__()
        self.guilty = set(guilty)
        self.asked = 0
        self._error = error or (lambda: UnencodableError("not this one"))

    def write(self, batch: SpanBatch) -> None:
        self.asked += 1
        if self.guilty & set(batch.flat[SPAN_ID::WIDTH]):
            raise self._error()
        super().write(batch)
