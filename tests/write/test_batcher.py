"""When a batch is due and how long the writer sleeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.write.batcher import LARGEST_BATCH, batch_due, batch_spans, pause_ns, threshold

MS = 1_000_000


@pytest.mark.parametrize(
    ("waiting", "age_ms", "due"),
    [
        (0, 10_000, False),  # nothing is never due
        (1, 0, False),
        (1, 499, False),
        (1, 500, True),  # the interval is over
        (2_047, 0, False),
        (2_048, 0, True),  # enough for a batch
    ],
)
def test_a_batch_is_due_when_it_is_full_or_old(waiting: int, age_ms: int, due: bool) -> None:
    assert batch_due(waiting, age_ms * MS, 2_048, 500 * MS) is due


def test_a_queue_smaller_than_two_batches_is_emptied_in_time() -> None:
    assert threshold(2_048, 131_072) == 2_048
    assert threshold(2_048, 64) == 32
    assert threshold(2_048, 1) == 1


def test_a_backlog_makes_larger_batches() -> None:
    assert batch_spans(100, 2_048) == 100
    assert batch_spans(4_096, 2_048) == 4_096
    assert batch_spans(100_000, 2_048) == LARGEST_BATCH
    # Whoever asked for larger ones gets them.
    assert batch_spans(1_000_000, 100_000) == 200_000


@given(
    waiting=st.integers(1, 10**7),
    batch_size=st.integers(1, 10**6),
)
def test_every_batch_takes_something_and_never_more_than_waits(
    waiting: int, batch_size: int
) -> None:
    assert 1 <= batch_spans(waiting, batch_size) <= waiting


@given(
    age=st.integers(0, 10**10),
    quiet=st.integers(0, 10**12),
    interval=st.integers(MS, 3_600_000 * MS),
    queue=st.integers(1, 10**8),
)
def test_a_pause_ends_when_a_batch_falls_due_and_a_burst_fits(
    age: int, quiet: int, interval: int, queue: int
) -> None:
    pause = pause_ns(age, quiet, interval, queue)
    assert MS <= pause <= 200 * MS
    # A kill -9 costs an interval and what the last millisecond of sleep adds.
    assert pause <= max(MS, interval - age)
    # 200,000 spans/s from idle leave half of a queue of the usual size free.
    if queue >= 131_072:
        assert pause * 200_000 // 1_000_000_000 <= queue // 2


def test_the_writer_looks_less_often_when_nothing_comes() -> None:
    busy = pause_ns(0, 0, 500 * MS, 131_072)
    idle = pause_ns(0, 5_000 * MS, 500 * MS, 131_072)
    assert busy == 50 * MS
    assert idle == 200 * MS
