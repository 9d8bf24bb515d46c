"""Any sequence of spans, steps and failures keeps the books."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.errors import SinkError, SinkUnavailableError, UnencodableError
from afterglow.ledger import balanced
from afterglow.model.flat import SPAN_ID, WIDTH
from afterglow.ports import SpanBatch
from afterglow.testing import ListSink
from tests.write.conftest import Rig

ERRORS: dict[str, Callable[[], Exception]] = {
    "unavailable": lambda: SinkUnavailableError("u"),
    "refused": lambda: SinkError("r"),
    "unencodable": lambda: UnencodableError("e"),
    "surprise": lambda: RuntimeError("s"),
}


class WhimsicalSink(ListSink):
    """Fails as it is told to, now and then with the first spans of a batch already taken."""

    def __init__(self) -> None:
        super().__init__()
        self.whims: list[str] = []

    def write(self, batch: SpanBatch) -> None:
        whim = self.whims.pop() if self.whims else "ok"
        if whim in ERRORS:
            raise ERRORS[whim]()
        super().write(batch)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 40)),
        st.tuples(st.just("advance"), st.sampled_from([0.01, 0.3, 1.0])),
        st.tuples(st.just("step"), st.just(1)),
        st.tuples(st.just("flush"), st.just(1)),
        st.tuples(st.just("whim"), st.sampled_from([*ERRORS, "ok"])),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, overflow=st.sampled_from(["drop_newest", "drop_oldest"]))
def test_after_any_sequence_the_books_balance_and_nothing_is_written_twice(
    steps: list[tuple[str, Any]], overflow: str
) -> None:
    sink = WhimsicalSink()
    one = Rig(sink, batch_size=8, max_queue_size=64, overflow=overflow, shutdown_timeout_s=1)
    put = 0
    for what, argument in steps:
        if what == "put":
            one.put(argument)
            put += argument
        elif what == "advance":
            one.advance(argument)
        elif what == "step":
            one.writer._careful_step()
        elif what == "flush":
            one.writer.flush()
        else:
            sink.whims.append(argument)
        check_books(one, sink, put)
    one.writer.close()
    check_books(one, sink, put)
    assert one.ledger["in_flight"] == 0
    for batch in sink.batches:
        assert balanced(batch.ledger)


def check_books(one: Rig, sink: ListSink, put: int) -> None:
    ledger = one.ledger
    written = [span_id for batch in sink.batches for span_id in batch.flat[SPAN_ID::WIDTH]]
    assert balanced(ledger)
    assert ledger["recorded"] == put
    assert ledger["written"] == len(written) == len(set(written))
