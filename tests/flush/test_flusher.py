"""One flusher, step by step: what it writes, when it waits, and that nothing is lost or doubled."""

from __future__ import annotations

import pytest

from afterglow.errors import SinkError, SinkUnavailableError, SpanBufferError
from afterglow.flush.flusher import Flusher
from tests.flush.rig import SPANS_A_TRACE, Killed, Mortal, Rig


def run(flusher: Flusher, steps: int = 500) -> None:
    """Step until there is nothing to do, twice: what was taken before may end first."""
    idle = 0
    for _ in range(steps):
        idle += flusher.step() > 0
        if idle == 2:
            return
    raise AssertionError("never idle")


def test_what_is_due_goes_out_and_is_acknowledged() -> None:
    rig = Rig()
    rig.add(*range(5))
    flusher = rig.flusher()
    assert flusher.step() == 0.5  # nothing is due: idle_s
    rig.due()
    run(flusher)
    rig.check_all_out()
    assert flusher.counts.spans == 5 * SPANS_A_TRACE
    assert flusher.counts.parts == 5 and flusher.counts.stale == 0


def test_pages_are_bounded() -> None:
    rig = Rig()
    rig.add(*range(8), size=100)
    rig.due()
    run(rig.flusher(page_bytes=2 * SPANS_A_TRACE * 110))
    rig.check_all_out()
    assert rig.sink.writes >= 4


def test_idle_costs_a_look_and_no_more() -> None:
    rig = Rig()
    flusher = rig.flusher(idle_s=7.0)
    assert [flusher.step() for _ in range(5)] == [7.0] * 5
    assert rig.sink.writes == 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, 14))
def test_killed_at_any_call(call: int, before: bool) -> None:
    """Before and after taking, writing, acknowledging: another one delivers the same."""
    rig = Rig()
    rig.add(*range(4), size=100)
    rig.due()
    mortal = Mortal(rig.buffer, rig.sink, call, before=before)
    victim = rig.flusher("victim", buffer=mortal, sink=mortal, page_bytes=SPANS_A_TRACE * 110)
    with pytest.raises(Killed):
        run(victim)
    heir = rig.flusher("heir")
    run(heir)
    rig.clock.advance_s(rig.config.lease_s)
    run(heir)
    rig.check_all_out()


def test_a_sink_that_is_away_is_asked_again_with_the_same_page() -> None:
    rig = Rig()
    rig.add(1, 2)
    rig.due()
    flusher = rig.flusher(retry_s=0.5)
    rig.sink.trouble = lambda _: SinkUnavailableError("gone fishing")
    waits = []
    for _ in range(4):
        waits.append(flusher.step())
        rig.clock.advance_s(waits[-1])
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert flusher.counts.released == 0
    rig.sink.trouble = lambda _: None
    run(flusher)
    rig.check_all_out()
    assert rig.said[0] == "the sink is away, gone fishing; trying again, nothing is lost"
    assert rig.said[-1] == "the sink takes segments again"


def test_a_page_goes_back_before_its_lease_ends() -> None:
    rig = Rig()
    rig.add(1)
    rig.due()
    flusher = rig.flusher()
    rig.sink.trouble = lambda _: SinkUnavailableError("gone")
    begun_ns = rig.clock.monotonic_ns()
    while not flusher.counts.released:
        rig.clock.advance_s(flusher.step())
    assert rig.clock.monotonic_ns() - begun_ns < rig.config.lease_s * 1e9
    rig.sink.trouble = lambda _: None
    run(rig.flusher("another"))  # at once: no need to wait for the end of a lease
    rig.check_all_out()


def test_an_outage_of_an_hour_loses_nothing() -> None:
    rig = Rig()
    rig.add(*range(5), size=100)
    rig.due()
    flusher = rig.flusher(page_bytes=SPANS_A_TRACE * 110)
    rig.sink.trouble = lambda _: SinkUnavailableError("gone")
    end_ns = rig.clock.monotonic_ns() + 3_600 * 10**9
    steps = 0
    while rig.clock.monotonic_ns() < end_ns:
        rig.clock.advance_s(flusher.step() or 0.001)
        steps += 1
    assert steps < 3_600
    rig.sink.trouble = lambda _: None
    rig.clock.advance_s(rig.config.lease_s)
    run(flusher)
    rig.check_all_out()


def test_what_a_sink_refuses_for_ever_is_counted_alone() -> None:
    rig = Rig()
    rig.add(*range(4))
    rig.due()
    bad = (3).to_bytes(16)
    rig.sink.trouble = lambda parts: (
        SinkError("no") if any(part.trace_id == bad for part in parts) else None
    )
    run(rig.flusher())
    books = rig.buffer.ledger()
    assert books.dropped == {"p": {"sink_refused": SPANS_A_TRACE}}
    assert (books.delivered, books.held) == (3 * SPANS_A_TRACE, 0)
    assert books.balanced
    assert len(rig.sink.spans()) == 3 * SPANS_A_TRACE


def test_a_sink_that_goes_away_among_the_refused() -> None:
    rig = Rig()
    rig.add(*range(4))
    rig.due()
    flusher = rig.flusher()
    bad = (2).to_bytes(16)

    def trouble(parts: object) -> Exception | None:
        some = list(parts)  # type: ignore[call-overload]
        if any(part.trace_id == bad for part in some):
            return SinkError("no")
        return SinkUnavailableError("gone") if some[0].trace_id == (4).to_bytes(16) else None

    rig.sink.trouble = trouble
    assert flusher.step() > 0
    rig.sink.trouble = lambda parts: (
        SinkError("no") if any(part.trace_id == bad for part in parts) else None
    )
    run(flusher)
    books = rig.buffer.ledger()
    assert books.dropped == {"p": {"sink_refused": SPANS_A_TRACE}} and books.balanced
    assert books.delivered == 3 * SPANS_A_TRACE


class Away:
    """A buffer whose acknowledgements fail for a while."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.away = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._rig.buffer, name)

    def acknowledge(self, parts, **how):  # type: ignore[no-untyped-def]
        if self.away:
            raise SpanBufferError("no route")
        return self._rig.buffer.acknowledge(parts, **how)


def test_a_buffer_that_is_away_for_the_acknowledgement_does_not_make_it_write_twice() -> None:
    rig = Rig()
    rig.add(1, 2)
    rig.due()
    buffer = Away(rig)
    flusher = rig.flusher(buffer=buffer)
    for _ in range(3):
        wait_s = flusher.step()
        assert wait_s > 0
        rig.clock.advance_s(wait_s)
    buffer.away = False
    run(flusher)
    rig.check_all_out()
    assert rig.sink.writes == 1


def test_a_buffer_that_cannot_be_asked() -> None:
    class Gone:
        def take_due(self, *_: object, **__: object) -> object:
            raise SpanBufferError("no route")

    rig = Rig()
    flusher = rig.flusher(buffer=Gone())
    assert [flusher.step() for _ in range(3)] == [0.5, 1.0, 2.0]
    assert "the buffer is away, no route" in rig.said[0]


def test_what_nobody_foresaw_is_raised_and_the_page_is_back() -> None:
    rig = Rig()
    rig.add(1)
    rig.due()
    rig.sink.trouble = lambda _: ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        rig.flusher().step()
    rig.sink.trouble = lambda _: None
    run(rig.flusher("another"))
    rig.check_all_out()


@pytest.mark.parametrize("how", [{}, {"within_s": 10.0}], ids=["at once", "with what it took"])
def test_closing_finishes_the_page_in_hand(how: dict[str, float]) -> None:
    rig = Rig()
    rig.add(*range(4), size=100)
    rig.due()
    flusher = rig.flusher(page_bytes=SPANS_A_TRACE * 110)
    flusher.step()
    rig.sink.trouble = lambda _: SinkUnavailableError("gone")
    flusher.step()
    rig.sink.trouble = lambda _: None
    flusher.close(**how)
    assert rig.sink.closed
    assert (rig.buffer.ledger().held == 0) is bool(how)
    run(rig.flusher("another"))
    rig.clock.advance_s(rig.config.lease_s)
    run(rig.flusher("another"))
    rig.check_all_out()


def test_shards_are_taken_in_turn_and_said_when_done() -> None:
    rig = Rig(shards=2)
    rig.add(*range(40), size=100)
    rig.due()
    flusher = rig.flusher(shards=[0], page_bytes=SPANS_A_TRACE * 110)
    flusher.step()
    flusher.assign([1])
    while flusher.shards == {0}:
        flusher.step()
    assert flusher.shards == {1}
    first = len(rig.sink.spans())
    assert 0 < first < len(rig.expected)
    run(flusher)
    rig.check_all_out()
    flusher.assign([])
    assert flusher.shards == set()
    assert flusher.step() == 0.5


def test_a_flusher_that_is_behind_for_ten_seconds_says_so_until_it_is_not() -> None:
    rig = Rig()
    rig.add(*range(60))
    rig.due()
    flusher = rig.flusher(max_segments=2, limit_s=10)
    while rig.buffer.ledger().held > 4 * SPANS_A_TRACE:
        flusher.step()
        assert bool(rig.pressure.said) is (rig.clock.monotonic_ns() - start_ns(rig) >= 10**10)
        rig.clock.advance_s(0.4)
    assert "flusher a is behind: more is due than it can flush" in rig.pressure.said[0]
    run(flusher)
    rig.pressure.said.clear()
    rig.clock.advance_s(100)
    run(flusher)
    assert rig.pressure.said == []
    assert rig.pressure.looks > 0


def start_ns(rig: Rig) -> int:
    """When the first take was over, which was full."""
    return 1_000_000_000 + round(rig.config.timeout_s * 1e9) + round(0.4e9)


def test_a_sink_that_is_away_for_ten_seconds_is_pressure_too() -> None:
    rig = Rig()
    rig.add(1)
    rig.due()
    flusher = rig.flusher(limit_s=10)
    rig.sink.trouble = lambda _: SinkUnavailableError("gone")
    while not rig.pressure.said:
        rig.clock.advance_s(flusher.step())
        assert rig.clock.monotonic_ns() < 10**12
    assert "the sink is away, gone" in rig.pressure.said[0]
    rig.sink.trouble = lambda _: None
    run(flusher)
    rig.pressure.said.clear()
    run(flusher)
    assert rig.pressure.said == []
