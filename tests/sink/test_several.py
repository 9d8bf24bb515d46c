"""Several sinks at once: each its own progress, its own failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.counts import Counts
from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.model.segment import SegmentPart
from afterglow.sink.several import Several
from tests.sink.far_sink import FarSink, ids, part

Make = Callable[..., Several]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Several] = []

    def several(*sinks: Any, **arguments: Any) -> Several:
        named = {f"s{number}": sink for number, sink in enumerate(sinks)}
        made.append(Several(named, **{"report": lambda _: None, **arguments}))
        return made[-1]

    yield several
    for one in made:
        one.close()


def test_each_gets_each_page(make: Make) -> None:
    one, two = FarSink(), FarSink()
    several = make(one, two)
    several.write([part(1), part(2)])
    several.write([part(3)])
    assert one.got == two.got == ids(1, 2, 3)
    several.close()
    several.close()
    assert one.closed == two.closed == 1
    with pytest.raises(SinkError):
        several.write([part(4)])


def test_one_that_is_away_gets_the_page_on_the_repeat_alone(make: Make) -> None:
    one, two = FarSink(), FarSink()
    several = make(one, two)
    two.away = True
    for _ in range(3):
        with pytest.raises(SinkUnavailableError, match="s1: told to be away"):
            several.write([part(1), part(2)])
    two.away = False
    several.write([part(1), part(2)])
    assert one.got == two.got == ids(1, 2) and one.tries == 1


class Gated(FarSink):
    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def write(self, parts: Sequence[SegmentPart]) -> None:
        assert self.gate.wait(30)
        super().write(parts)


def test_one_that_hangs_holds_the_others_up_no_longer_than_the_bound(make: Make) -> None:
    quick, slow = FarSink(), Gated()
    several = make(quick, slow, bound_s=0.05)
    with pytest.raises(SinkUnavailableError, match=r"s1 has not taken a page for 0\.05 s"):
        several.write([part(1)])
    with pytest.raises(SinkUnavailableError):
        several.write([part(2)])  # another page: the quick one has it at once
    assert quick.got == ids(1, 2)
    slow.gate.set()
    several.write([part(1)])
    several.write([part(2)])
    assert slow.got == ids(1, 2) and quick.got == ids(1, 2)


def test_what_one_refuses_is_counted_for_it_and_no_trouble_of_others(make: Make) -> None:
    counts = Counts()
    one, two = FarSink(), FarSink()
    two.refuses = {*ids(2)}
    make(one, two, counts=counts).write([part(n, spans=3) for n in range(5)])
    assert one.got == ids(0, 1, 2, 3, 4) and two.got == ids(0, 1, 3, 4)
    key = ("sink_dropped_spans", (("reason", "sink_refused"), ("sink", "s1")))
    assert counts.read() == {key: 3}


def test_what_all_refuse_is_refused_alone(make: Make) -> None:
    """As the flusher has it: the page, then each part."""
    one, two = FarSink(), FarSink()
    one.refuses = two.refuses = {*ids(2)}
    several = make(one, two)
    page = [part(n) for n in range(4)]
    with pytest.raises(SinkError) as raised:
        several.write(page)
    assert not isinstance(raised.value, SinkUnavailableError)
    outcomes = []
    for single in page:
        try:
            several.write([single])
            outcomes.append(True)
        except SinkError:
            outcomes.append(False)
    assert outcomes == [True, True, False, True]
    assert one.got == two.got == ids(0, 1, 3)


def test_what_nobody_foresaw_is_raised(make: Make) -> None:
    class Broken(FarSink):
        def write(self, parts: Sequence[SegmentPart]) -> None:
            raise RuntimeError("a bug")

    one = FarSink()
    several = make(one, Broken())
    with pytest.raises(RuntimeError, match="a bug"):
        several.write([part(1)])
    assert one.got == ids(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 8)), st.booleans(), st.booleans()), max_size=15))
def test_whatever_fails_each_sink_has_each_part_once(
    rounds: list[tuple[list[int], bool, bool]],
) -> None:
    """Pages are repeated until they are taken, as the flusher does; sinks come and go."""
    one, two = FarSink(), FarSink()
    several = Several({"one": one, "two": two}, report=lambda _: None)
    try:
        base = 0
        for numbers, one_away, two_away in rounds:
            one.away, two.away = one_away, two_away
            page = [part(base + number) for number in sorted(set(numbers))]
            base += 10
            try:
                several.write(page)
            except SinkUnavailableError:
                one.away = False
                try:
                    several.write(page)
                except SinkUnavailableError:
                    two.away = False
                    several.write(page)
        assert one.got == two.got
        assert len(set(one.got)) == len(one.got)
    finally:
        several.close()
