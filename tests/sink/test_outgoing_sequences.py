"""Whatever happens in whatever order: the books balance, and each span arrives once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.errors import SinkUnavailableError
from tests.sink.far_sink import ids, part
from tests.sink.outgoing_desk import Desk

Event = tuple[str, int]
EVENTS = st.one_of(
    st.tuples(st.just("page"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["repeat", "away", "back", "step", "restart"]), st.just(0)),
    st.tuples(st.just("goes away after"), st.integers(0, 3)),
    st.tuples(st.just("refuses"), st.integers(0, 4)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.sampled_from(["refuse", "drop_oldest"]))
def test_each_span_once_and_the_books_balance(events: list[Event], on_full: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        desk.open(on_full=on_full, max_queue_bytes=64 << 10, max_request_bytes=20 << 10)
        try:
            _play(desk, events)
        finally:
            desk.crash()


def _play(desk: Desk, events: list[Event]) -> None:
    given_spans, number = 0, 0
    page = [part(0)]
    taken: set[str] = set()
    for what, value in events:
        if what == "page":
            page = [part(number + at, spans=1 + at % 2, size=5 << 10) for at in range(value)]
            number += value
        if what in ("page", "repeat"):
            try:
                desk.outgoing.write(page)
                taken.update(one.message_id for one in page)
            except SinkUnavailableError:
                pass
        elif what in ("away", "back"):
            desk.sink.away, desk.sink.takes = what == "away", None
        elif what == "goes away after":
            desk.sink.takes = value
        elif what == "refuses":
            desk.sink.refuses.update(ids(number + value))
        elif what == "step":
            desk.clock.advance_s(desk.outgoing.step())
        else:
            before = desk.books
            desk.restart()
            after = desk.books
            assert (after.taken, after.sent, after.queued) == (
                before.taken, before.sent, before.queued,
            )  # fmt: skip
        assert desk.books.balanced
    desk.sink.away, desk.sink.takes = False, None
    desk.drain()
    books = desk.books
    assert set(desk.sink.times.values()) <= {1}
    assert books.queued == 0 and books.queued_bytes == 0
    if not books.dropped:
        assert taken - set(desk.sink.got) <= desk.sink.refuses
    assert books.taken == books.sent + books.refused + books.dropped
    assert given_spans == 0 or books.taken
