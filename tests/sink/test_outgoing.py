"""A disk queue before a sink: away for long, full, restarted; the books at every moment."""

from __future__ import annotations

import pytest

from afterglow.errors import SinkUnavailableError
from afterglow.sink.outgoing_books import SentBooks
from tests.sink.far_sink import ids, part
from tests.sink.outgoing_desk import Desk


def test_what_is_there_is_sent_at_once(desk: Desk) -> None:
    outgoing = desk.open()
    outgoing.write([part(1, spans=3), part(2)])
    assert desk.sink.got == ids(1, 2)
    assert desk.books == SentBooks(taken=4, sent=4)
    assert desk.count("sink_spans") == 4 and desk.count("sink_queued_spans") == 0


def test_away_for_a_minute(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    waited_s = 0.0
    for number in range(60):
        outgoing.write([part(number, spans=2)])
        desk.clock.advance_s(1.0)
        waited_s = max(waited_s, outgoing.step())
    assert desk.books.queued == desk.books.taken == 120
    assert 1.0 < waited_s <= 30.0
    assert desk.sink.tries < 15  # it was left alone longer and longer
    assert [line.count("is away") for line in desk.said] == [1]
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(*range(60))
    assert desk.books == SentBooks(taken=120, sent=120)
    assert desk.said[-1] == "far takes spans again"
    assert desk.count("sink_queued_spans") == 120 and desk.count("sink_spans") == 120
    assert desk.count("sink_retries") == desk.sink.tries - 60
    outgoing.write([part(99)])
    assert desk.sink.got[-1:] == ids(99)


def test_new_spans_wait_behind_those_that_wait(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    outgoing.write([part(1)])
    desk.sink.away = False
    outgoing.write([part(2)])
    assert desk.sink.got == []
    desk.drain()
    assert desk.sink.got == ids(1, 2)


def test_it_waits_as_long_as_the_other_side_asks(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.away, desk.sink.retry_after_s = True, 90.0
    outgoing.write([part(1)])
    desk.sink.away = False
    assert outgoing.step() == 90.0
    desk.clock.advance_s(89.0)
    outgoing.write([part(2)])
    assert outgoing.step() == pytest.approx(1.0)
    assert desk.sink.got == []
    desk.drain()
    assert desk.sink.got == ids(1, 2)


def test_what_is_refused_for_ever_is_counted_alone(desk: Desk) -> None:
    outgoing = desk.open(max_request_bytes=1 << 20)
    desk.sink.refuses = {*ids(3, 7)}
    outgoing.write([part(number, spans=2) for number in range(10)])
    assert sorted(desk.sink.got) == ids(0, 1, 2, 4, 5, 6, 8, 9)
    assert desk.books == SentBooks(taken=20, sent=16, refused=4)
    assert desk.count("sink_dropped_spans", reason="sink_refused") == 4
    desk.sink.away = True
    desk.sink.refuses = {*ids(12)}
    outgoing.write([part(number) for number in range(10, 14)])
    desk.sink.away = False
    desk.drain()
    assert desk.books == SentBooks(taken=24, sent=19, refused=5)


def test_rejected_spans_are_refused_ones(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.rejects_each = 2
    outgoing.write([part(1, spans=5)])
    assert desk.books == SentBooks(taken=5, sent=3, refused=2)


def test_going_away_between_halves(desk: Desk) -> None:
    """What was settled is in the books; what was not waits; nothing is sent twice."""
    outgoing = desk.open(max_request_bytes=1 << 20)
    desk.sink.refuses = {*ids(0)}
    desk.sink.takes = 4  # 0-7, 0-3, 0-1, 0 are refused; then it is gone
    outgoing.write([part(number) for number in range(8)])
    assert desk.books == SentBooks(
        taken=8, refused=1, queued=7, queued_bytes=desk.books.queued_bytes
    )
    desk.restart()
    assert desk.books.queued == 7
    desk.sink.away, desk.sink.takes = False, None
    desk.drain()
    assert desk.sink.times == dict.fromkeys(ids(*range(1, 8)), 1)
    assert desk.books == SentBooks(taken=8, sent=7, refused=1)


def test_a_full_queue_makes_the_sender_wait(desk: Desk) -> None:
    outgoing = desk.open(max_queue_bytes=64 << 10, max_request_bytes=16 << 10)
    desk.sink.away = True
    number = 0
    with pytest.raises(SinkUnavailableError, match="full"):
        while True:
            outgoing.write([part(number, size=8 << 10)])
            number += 1
    books = desk.books
    assert books.taken == number == 7
    assert books.queued_bytes <= 64 << 10
    desk.sink.away = False
    desk.drain()
    outgoing.write([part(number, size=8 << 10)])
    assert desk.sink.got == ids(*range(8))
    assert desk.books == SentBooks(taken=8, sent=8)


def test_of_a_page_that_did_not_fit_the_repeat_sends_the_rest(desk: Desk) -> None:
    outgoing = desk.open(max_queue_bytes=64 << 10, max_request_bytes=16 << 10)
    desk.sink.away = True
    page = [part(number, size=8 << 10) for number in range(12)]
    with pytest.raises(SinkUnavailableError):
        outgoing.write(page)
    desk.sink.away = False
    desk.drain()
    outgoing.write(page)
    desk.drain()
    assert desk.sink.got == ids(*range(12))
    assert desk.books.sent == 12 and desk.books.taken == 12


def test_drop_oldest_counts_what_goes(desk: Desk) -> None:
    outgoing = desk.open(
        max_queue_bytes=64 << 10, max_request_bytes=16 << 10, on_full="drop_oldest"
    )
    desk.sink.away = True
    for number in range(20):
        outgoing.write([part(number, size=8 << 10)])
    books = desk.books
    assert (books.taken, books.dropped, books.queued) == (20, 13, 7)
    assert desk.count("sink_dropped_spans", reason="queue_full") == 13
    desk.restart()
    assert desk.books == books
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(*range(13, 20))
    assert desk.books.sent == 7


def test_a_page_larger_than_the_queue_is_queued_alone(desk: Desk) -> None:
    outgoing = desk.open(max_queue_bytes=64 << 10)
    desk.sink.away = True
    outgoing.write([part(1, size=100 << 10)])
    with pytest.raises(SinkUnavailableError):
        outgoing.write([part(2)])
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(1)
