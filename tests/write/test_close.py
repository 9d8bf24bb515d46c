"""flush and close, without a thread: nothing is lost uncounted, nobody hangs."""

from __future__ import annotations

from collections.abc import Callable

from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.ports import SpanBatch
from afterglow.testing import FailingSink, ListSink
from tests.write.conftest import Rig, record

Make = Callable[..., Rig]


def test_flush_writes_everything_before_it(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=1_000)
    one.put(2_500)
    assert one.writer.flush()
    assert len(sink.spans) == 2_500
    assert one.ledger["in_flight"] == 0
    assert one.writer.flush(), "with nothing to do"


def test_flush_does_not_wait_for_what_comes_after_it(rig: Make) -> None:
    class Busy(ListSink):
        def write(self, batch: SpanBatch) -> None:
            super().write(batch)
            if len(self.batches) < 100:
                one.put(10)  # as busy threads do

    sink = Busy()
    one = rig(sink, batch_size=10)
    one.put(10)
    assert one.writer.flush()
    assert len(sink.batches) < 3


def test_flush_says_so_when_the_sink_cannot(rig: Make) -> None:
    sink = FailingSink()
    one = rig(sink)
    one.put(1)
    assert not one.writer.flush()
    assert one.ledger["in_flight"] == 1
    sink.failing.clear()
    assert one.writer.flush(), "it does not wait for the pause between attempts"


def test_what_is_dropped_is_done_too(rig: Make) -> None:
    sink = FailingSink(lambda: SinkError("never"))
    one = rig(sink)
    one.put(3)
    assert one.writer.flush()
    assert one.ledger["dropped"] == {"sink_refused": 3}


def test_close_writes_all_and_says_goodbye(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, batch_size=10)
    one.put(25)
    one.open = list(record(77, end=None, start=one.clock.monotonic_ns()))
    one.writer.close()
    *before, goodbye = sink.batches
    assert len(sink.spans) == 25
    assert [batch.last for batch in before] == [False] * len(before)
    assert goodbye.last
    assert goodbye.process.end_ns == one.clock.wall_ns()
    assert goodbye.ledger == one.ledger
    # However young: nobody will end it any more.
    assert [span.span_id for span in goodbye.open_spans()] == [77]
    assert one.cutoffs[-1] > one.clock.monotonic_ns()
    assert sink.closed


def test_a_process_without_spans_says_goodbye_all_the_same(rig: Make) -> None:
    sink = ListSink()
    rig(sink).writer.close()
    (goodbye,) = sink.batches
    assert goodbye.last
    assert len(goodbye) == 0


def test_closing_twice_says_goodbye_once_and_later_spans_are_counted(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink)
    one.writer.close()
    one.writer.close()
    one.put(2)
    assert len(sink.batches) == 1
    assert one.ledger["dropped"] == {"closed": 2}
    assert one.ledger["in_flight"] == 0
    assert not one.writer.flush()


def test_a_span_that_slips_in_behind_the_last_look_is_counted(rig: Make) -> None:
    one = rig()
    one.writer.close()
    # A thread had looked at the limit before close(), and goes on only now.
    one.handover.flat.extend(record(1))
    assert one.ledger["in_flight"] == 0
    assert one.ledger["dropped"] == {"closed": 1}
    assert one.handover.flat == []


def test_close_gives_up_after_so_much_stalled_time(rig: Make) -> None:
    sink = FailingSink()
    one = rig(sink, batch_size=2, shutdown_timeout_s=5)
    one.put(5)
    began = one.clock.monotonic_ns()
    one.writer.close()
    stalled_s = (one.clock.monotonic_ns() - began) / 1e9
    assert 5 <= stalled_s < 6
    assert one.ledger["dropped"] == {"shutdown_timeout": 5}
    assert one.ledger["in_flight"] == 0
    assert one.said[-1] == "gave up after 5 s without progress: 5 spans are lost"
    assert sink.closed


def test_close_waits_as_long_as_there_is_progress(rig: Make) -> None:
    one: Rig

    class Slow(ListSink):
        def write(self, batch: SpanBatch) -> None:
            one.advance(4)
            super().write(batch)

    sink = Slow()
    one = rig(sink, batch_size=1, shutdown_timeout_s=5)
    one.put(50_000)
    one.writer.close()
    assert len(sink.spans) == 50_000
    assert len(sink.batches) > 3  # longer than the timeout, all told


def test_a_timeout_of_zero_still_tries_once(rig: Make) -> None:
    sink = ListSink()
    one = rig(sink, shutdown_timeout_s=0.0)
    one.put(3)
    one.writer.close()
    assert len(sink.spans) == 3
    assert sink.batches[-1].last


def test_a_sink_that_recovers_while_closing_gets_everything(rig: Make) -> None:
    class Recovering(ListSink):
        left = 10

        def write(self, batch: SpanBatch) -> None:
            self.left -= 1
            if self.left > 0:
                raise SinkUnavailableError("not yet")
            super().write(batch)

    sink = Recovering()
    one = rig(sink, shutdown_timeout_s=5)
    one.put(7)
    one.writer.close()
    assert len(sink.spans) == 7
    assert one.ledger["dropped"] == {}


def test_closing_a_sink_that_cannot_be_closed_ends_all_the_same(rig: Make) -> None:
    class Stuck(ListSink):
        def close(self) -> None:
            raise OSError("stuck")

    one = rig(Stuck())
    one.writer.close()
    assert one.said == ["the sink cannot be closed: OSError: stuck"]


def test_closing_in_the_midst_of_a_step_hangs_nobody(rig: Make) -> None:
    class Closing(ListSink):
        def write(self, batch: SpanBatch) -> None:
            super().write(batch)
            one.writer.close()  # as a finaliser may, in whatever thread it runs
            assert not one.writer.flush()

    sink = Closing()
    one = rig(sink, batch_size=1)
    one.put(1)
    one.writer.step()
    one.writer.close()
    assert sink.batches[-1].last
    assert one.ledger["in_flight"] == 0
