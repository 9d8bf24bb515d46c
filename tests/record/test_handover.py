"""The hand-over: bounded, exact, and lost by nobody uncounted."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.config import WriteConfig
from afterglow.handover import Handover, Tally
from afterglow.ledger import balanced
from afterglow.model.flat import SPAN_ID, WIDTH


def record(number: int) -> tuple[Any, ...]:
    return (number, number, 0, "n", 0, 1, {}, (1, "t"), None)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 12)),
        st.tuples(st.just("take"), st.integers(1, 12)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=40,
)


@given(steps=steps, overflow=st.sampled_from(["drop_newest", "drop_oldest"]))
def test_the_books_balance_after_every_step(steps: list[Any], overflow: Any) -> None:
    handover = Handover(WriteConfig(max_queue_size=10, overflow=overflow))
    put = taken = 0
    out: list[int] = []
    for step, times in steps:
        if step == "put":
            for _ in range(times):
                put += 1
                handover.put(record(put))
        elif step == "take":
            chunk = handover.take(times)
            out += chunk[SPAN_ID::WIDTH]
            taken += len(chunk) // WIDTH
        elif step == "settle":
            handover.settle(written=taken)
            taken = 0
        else:
            handover.close()
        books = handover.ledger()
        assert balanced(books)
        assert books["recorded"] == put
        assert books["in_flight"] == len(handover) + taken
        assert len(handover) <= 10
    assert out == sorted(out), "out of order"


@pytest.mark.parametrize(
    ("overflow", "kept", "reason"),
    [("drop_newest", list(range(4)), "queue_full"), ("drop_oldest", list(range(6, 10)), "oldest")],
)
def test_what_a_full_queue_keeps(overflow: Any, kept: list[int], reason: str) -> None:
    handover = Handover(WriteConfig(max_queue_size=4, overflow=overflow))
    for number in range(10):
        handover.put(record(number))
    assert handover.ledger()["dropped"] == {reason: 6}
    assert handover.take(100)[SPAN_ID::WIDTH] == kept


def test_block_waits_for_room_and_loses_nothing() -> None:
    handover = Handover(WriteConfig(max_queue_size=2, overflow="block"))
    done = threading.Event()

    def produce() -> None:
        for number in range(100):
            handover.put(record(number))
        done.set()

    producer = threading.Thread(target=produce)
    producer.start()
    out: list[int] = []
    while not (done.is_set() and not len(handover)):
        out += handover.take(1)[SPAN_ID::WIDTH]
    producer.join()
    assert out == list(range(100))
    assert handover.ledger()["dropped"] == {}


def test_block_lets_go_when_it_closes() -> None:
    handover = Handover(WriteConfig(max_queue_size=1, overflow="block"))
    handover.put(record(1))
    waiting = threading.Thread(target=handover.put, args=(record(2),))
    waiting.start()
    handover.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert handover.ledger()["dropped"] == {"closed": 1}


def test_block_never_waits_in_the_thread_that_makes_room() -> None:
    handover = Handover(WriteConfig(max_queue_size=1, overflow="block"))
    handover.taker = threading.get_ident()
    handover.put(record(1))
    handover.put(record(2))
    assert handover.ledger()["dropped"] == {"queue_full": 1}


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_eight_threads_and_a_small_queue_lose_nothing_uncounted(overflow: Any) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        handover = Handover(WriteConfig(max_queue_size=64, overflow=overflow))
        each, stop = 500, threading.Event()
        out: list[int] = []

        def take() -> None:
            handover.taker = threading.get_ident()
            while not stop.is_set() or len(handover):
                chunk = handover.take(16)
                out.extend(chunk[SPAN_ID::WIDTH])
                handover.settle(written=len(chunk) // WIDTH)
                assert balanced(handover.ledger())

        def produce(base: int) -> None:
            for number in range(each):
                handover.put(record(base + number))

        taker = threading.Thread(target=take)
        producers = [threading.Thread(target=produce, args=(n * each,)) for n in range(8)]
        for thread in [taker, *producers]:
            thread.start()
        for thread in producers:
            thread.join()
        stop.set()
        taker.join()
    finally:
        sys.setswitchinterval(before)
    books = handover.ledger()
    assert books["recorded"] == 8 * each
    assert books["written"] == len(out) == len(set(out))
    assert books["written"] + sum(books["dropped"].values()) == 8 * each
    assert books["in_flight"] == 0


def test_a_tally_is_exact_under_threads() -> None:
    tally = Tally()
    threads = [
        threading.Thread(target=lambda: [tally.add() for _ in range(10_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.value == 40_000
