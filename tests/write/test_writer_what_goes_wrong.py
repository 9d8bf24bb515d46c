"""One step at a time: what goes wrong (test_writer.py has the rest)."""

from __future__ import annotations

import msgspec
import pytest

from afterglow.errors import SinkError, SinkUnavailableError, UnencodableError
from afterglow.ledger import balanced
from afterglow.model.flat import WIDTH
from afterglow.ports import SpanBatch
from afterglow.testing import FailingSink, ListSink
from tests.write.conftest import PROCESS, Make, PickySink, record, span_ids

# --- what goes wrong ---------------------------------------------------------------------------


def test_while_the_sink_cannot_spans_wait_and_then_all_are_written(rig: Make) -> None:
    sink = FailingSink()
    one = rig(sink, batch_size=2, flush_interval_s=0.5)
    one.put(2)
    assert not one.writer.step()
    one.put(3)
    assert sink.batches == []
    assert one.ledger["in_flight"] == 5
    sink.failing.clear()
    one.advance(0.01)
    assert not one.writer.step(), "before the pause is over"
    one.advance(1)
    one.step_until_idle()
    assert span_ids(sink) == [1, 2, 3, 4, 5]
    assert one.ledger["in_flight"] == 0


def test_a_failure_is_reported_once_a_minute_and_so_is_its_end(rig: Make) -> None:
    sink = FailingSink(lambda: SinkUnavailableError("the disk is full: make room"))
    one = rig(sink, batch_size=1)
    one.put(1)
    for _ in range(119):
        one.writer.step()
        one.advance(1)
    assert sink.attempts > 50
    assert one.said == ["the disk is full: make room (spans wait; trying again)"] * 2
    sink.failing.clear()
    one.step_until_idle()
    assert one.said[2:] == ["writing goes on"]


def test_the_pauses_between_attempts_grow_but_not_for_ever(rig: Make) -> None:
    sink = FailingSink()
    one = rig(sink, batch_size=1)
    one.put(1)
    for _ in range(10_000):
        one.writer.step()
        one.advance(0.01)
    # 100 s: one a second, and a few more at the beginning.
    assert 95 <= sink.attempts <= 110


def test_only_the_guilty_spans_are_dropped(rig: Make) -> None:
    sink = PickySink(3, 70)
    one = rig(sink, batch_size=100)
    one.put(100)
    one.writer.step()
    assert set(span_ids(sink)) == set(range(1, 101)) - {3, 70}
    assert one.ledger["dropped"] == {"unencodable": 2}
    assert one.ledger["written"] == 98
    for batch in sink.batches:
        assert balanced(batch.ledger)
    # Found by halves, not one by one.
    assert sink.asked < 40
    assert len(one.said) == 1


def test_a_value_that_cannot_be_encoded_is_cleaned_and_nothing_is_dropped(rig: Make) -> None:
    class Strict(ListSink):
        def write(self, batch: SpanBatch) -> None:
            for name in batch.flat[3::WIDTH]:
                try:
                    name.encode()
                except UnicodeEncodeError as error:
                    raise UnencodableError("surrogate") from error
            super().write(batch)

    sink = Strict()
    one = rig(sink, batch_size=2)
    one.put(1, name="lone \ud800")
    one.put(1)
    one.writer.step()
    assert [span.name for span in sink.spans] == ["lone ?", "work"]
    assert one.ledger["dropped"] == {}
    assert one.ledger["changed"] == {"names_changed": 1}


def test_a_process_that_cannot_be_encoded_is_cleaned_too(rig: Make) -> None:
    class Strict(ListSink):
        def write(self, batch: SpanBatch) -> None:
            if "\udce9" in "".join(batch.process.argv):
                raise UnencodableError("surrogate")
            super().write(batch)

    sink = Strict()
    one = rig(sink, batch_size=1)
    one.process = msgspec.structs.replace(PROCESS, argv=("caf\udce9",))
    one.put(1)
    one.writer.step()
    assert sink.batches[0].process.argv == ("caf?",)


def test_open_spans_that_cannot_be_encoded_hold_up_nothing(rig: Make) -> None:
    class NoOpen(ListSink):
        def write(self, batch: SpanBatch) -> None:
            if batch.open:
                raise UnencodableError("open")
            super().write(batch)

    sink = NoOpen()
    one = rig(sink, batch_size=1)
    one.open = list(record(77, end=None))
    one.put(1)
    one.writer.step()
    assert span_ids(sink) == [1]


@pytest.mark.parametrize("error", [SinkError("never"), RuntimeError("boom"), MemoryError()])
def test_what_the_sink_refuses_is_counted_and_the_next_batch_goes_on(
    rig: Make, error: Exception
) -> None:
    sink = PickySink(1, error=lambda: error)
    one = rig(sink, batch_size=2)
    one.put(2)
    one.writer.step()
    assert one.ledger["dropped"] == {"sink_refused": 2}
    assert len(one.said) == 1
    one.put(2)
    one.writer.step()
    assert span_ids(sink) == [3, 4]


def test_spans_that_a_sink_lost_later_move_from_written_to_dropped(rig: Make) -> None:
    class Losing(ListSink):
        lost = 0

        def counters(self) -> dict[str, int]:
            return {"journal_limit": self.lost}

    sink = Losing()
    one = rig(sink, batch_size=5)
    one.put(5)
    one.writer.step()
    sink.lost = 3
    one.put(5)
    one.writer.step()
    assert one.ledger["written"] == 7
    assert one.ledger["dropped"] == {"journal_limit": 3}
    assert balanced(one.ledger)
    # The books in the file are corrected without another span.
    one.advance(1)
    one.writer.step()
    assert sink.batches[-1].ledger == one.ledger


def test_a_process_that_cannot_be_described_holds_spans_back_but_loses_none(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=1)
    del one.process
    one.put(1)
    one.writer._careful_step()
    assert one.ledger["in_flight"] == 1
    assert len(one.said) == 1
    one.process = PROCESS
    one.advance(2)
    assert one.writer.step()
    assert span_ids(sink) == [1]


def test_open_spans_that_cannot_be_listed_hold_up_nothing(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=1)
    one.open = None  # type: ignore[assignment]  # list(None) raises
    one.put(1)
    assert one.writer.step()
    assert span_ids(sink) == [1]
    assert one.said == [
        "open spans or counts are not up to date: TypeError: 'NoneType' object is not iterable"
    ]


def test_a_listener_that_raises_does_not_stop_the_writing(
    rig: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(_message: str) -> None:
        raise ValueError("listener")

    sink = FailingSink(lambda: SinkError("no"))
    one = rig(sink, batch_size=1)
    one.writer._complaints._report = raising
    one.put(1)
    one.writer.step()
    assert one.ledger["dropped"] == {"sink_refused": 1}
    assert "afterglow: the sink refused 1 spans: no" in capsys.readouterr().err
