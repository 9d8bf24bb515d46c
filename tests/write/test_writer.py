"""One step at a time: what is written when, with what beside it, and what goes wrong."""

from __future__ import annotations

from typing import Any

from afterglow.ledger import balanced
from afterglow.model.flat import ATTRIBUTES
from afterglow.testing import ListSink
from afterglow.write.state import MAX_OPEN
from tests.write.conftest import Make, record, span_ids

# --- when -----------------------------------------------------------------------------------


def test_a_full_batch_is_written_at_once(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=10)
    one.put(9)
    assert not one.writer.step()
    one.put(1)
    assert one.writer.step()
    assert span_ids(sink) == list(range(1, 11))
    assert not one.writer.step()


def test_fewer_are_written_when_the_interval_is_over(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, flush_interval_s=0.5)
    one.put(3)
    one.advance(0.49)
    assert not one.writer.step()
    one.advance(0.01)
    assert one.writer.step()
    assert len(sink.spans) == 3


def test_the_interval_counts_from_the_last_look_at_an_empty_queue(rig: Make) -> None:
    one = rig(flush_interval_s=0.5)
    one.advance(10)
    assert not one.writer.step()
    one.put(1)
    one.advance(0.4)
    assert not one.writer.step()
    one.advance(0.1)
    assert one.writer.step()


def test_a_full_batch_begins_the_interval_anew(rig: Make) -> None:
    one = rig(batch_size=2, flush_interval_s=0.5)
    one.advance(0.4)
    one.put(2)
    assert one.writer.step()
    one.put(1)
    one.advance(0.4)
    assert not one.writer.step()
    one.advance(0.1)
    assert one.writer.step()


def test_an_idle_writer_writes_nothing(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink)
    for _ in range(20):
        one.advance(1)
        assert not one.writer.step()
    assert sink.batches == []


# --- what is beside the spans ----------------------------------------------------------------


def test_each_batch_has_the_books_as_they_stand_behind_it(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=4, max_queue_size=1_000)
    one.put(5)
    one.writer.step()
    one.put(8)
    one.writer.step()
    for batch in sink.batches:
        assert balanced(batch.ledger)
    assert [batch.ledger["written"] for batch in sink.batches] == [5, 13]
    assert sink.batches[-1].ledger == one.ledger


def test_open_spans_are_saved_once_until_they_change(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, flush_interval_s=0.5)
    one.open = list(record(77, end=None))
    for _ in range(10):
        one.advance(0.5)
        one.writer.step()
    assert [batch.open is not None and len(list(batch.open_spans())) for batch in sink.batches] == [
        1
    ]
    # A batch of spans meanwhile says: as before.
    one.put(1)
    one.advance(0.5)
    one.writer.step()
    assert sink.batches[-1].open is None
    # Another one began: all that are open are named again. Then none is left: so too.
    one.open = [*record(77, end=None), *record(78, end=None)]
    one.advance(0.5)
    one.writer.step()
    assert [span.span_id for span in sink.batches[-1].open_spans()] == [77, 78]
    one.open = []
    one.advance(0.5)
    one.writer.step()
    assert sink.batches[-1].open == []
    written = len(sink.batches)
    one.advance(5)
    assert not one.writer.step()
    assert len(sink.batches) == written


def test_open_spans_are_those_begun_an_interval_ago(rig: Make) -> None:
    one = rig(flush_interval_s=0.5)
    one.advance(0.5)
    one.writer.step()
    assert one.cutoffs == [one.clock.monotonic_ns() - 500_000_000]


def test_what_changes_in_an_open_span_later_does_not_change_the_batch(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, flush_interval_s=0.5)
    attributes: dict[str, Any] = {"a": 1}
    one.open = list(record(77, end=None, attributes=attributes))
    one.advance(0.5)
    one.writer.step()
    attributes["b"] = object()
    (batch,) = sink.batches
    assert batch.open is not None
    assert batch.open[ATTRIBUTES] == {"a": 1}


def test_so_many_open_spans_are_saved_and_no_more(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, flush_interval_s=0.5)
    # The oldest are the last in the list.
    one.open = [
        value
        for number in range(1, MAX_OPEN + 4)
        for value in record(number, end=None, start=10**6 - number)
    ]
    one.advance(0.5)
    one.writer.step()
    saved = [span.span_id for span in sink.batches[0].open_spans()]
    assert len(saved) == MAX_OPEN
    assert min(saved) == 4


def test_counts_and_refusals_are_news_too(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink)
    one.counts = {"f": 3}
    one.advance(1)
    assert one.writer.step()
    assert sink.batches[-1].counts == {"f": 3}
    one.advance(1)
    assert not one.writer.step()
    one.handover.not_recorded["sampled_out"].add()
    one.advance(1)
    assert one.writer.step()
    assert sink.batches[-1].ledger["not_recorded"] == {"sampled_out": 1}
    one.advance(1)
    assert not one.writer.step()


def test_the_wall_clock_is_followed_when_it_is_set(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, flush_interval_s=0.5)
    one.put(1)
    one.advance(0.5)
    one.writer.step()
    one.clock.step_wall_s(0.5)  # type: ignore[attr-defined]  # within what clocks drift
    one.put(1)
    one.advance(0.5)
    one.writer.step()
    one.clock.step_wall_s(3_600)  # type: ignore[attr-defined]
    one.put(1)
    one.advance(0.5)
    one.writer.step()
    first, second, third = (batch.wall_offset_ns for batch in sink.batches)
    assert first == second
    assert third - first == round(3_600.5 * 1e9)
