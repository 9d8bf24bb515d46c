"""When a flusher is taken for hung, when it is started again, when the service gives up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afterglow.config import FlushConfig
from afterglow.flush.backoff import back_off_s
from afterglow.flush.supervise_plan import Life, begun, died, heard, is_hung, shares

CONFIG = FlushConfig(retry_s=0.5, hung_s=60, start_timeout_s=30, steady_s=30)
S = 1_000_000_000


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_double_to_16_times_and_are_spread(failures: int, chance: float) -> None:
    wait_s = back_off_s(0.5, failures, chance)
    whole = 0.5 * min(2.0 ** min(failures - 1, 10), 16)
    assert whole / 2 <= wait_s <= whole


def test_hung_is_silent_for_too_long() -> None:
    life = heard(begun(Life(), 0), 1 * S)
    assert not is_hung(life, 60 * S, CONFIG)
    assert is_hung(life, 61 * S, CONFIG)
    assert not is_hung(heard(life, 61 * S), 62 * S, CONFIG)


def test_one_that_starts_has_the_time_to_start() -> None:
    life = begun(Life(), 0)
    assert not is_hung(life, 29 * S, CONFIG)
    assert is_hung(life, 30 * S, CONFIG)
    assert not is_hung(Life(), 1_000 * S, CONFIG)


def test_deaths_in_a_row_and_a_steady_life_between() -> None:
    life = Life()
    now_ns = 0
    for expected in range(1, 12):
        life = died(heard(begun(life, now_ns), now_ns), now_ns + 29 * S, CONFIG, 1.0)
        assert life.deaths == expected
        assert life.since_ns == now_ns + 29 * S + round(back_off_s(0.5, expected, 1.0) * S)
        now_ns = life.since_ns
    life = died(heard(begun(life, now_ns), now_ns), now_ns + 30 * S, CONFIG, 1.0)
    assert life.deaths == 1


def test_one_that_never_was_healthy_was_never_steady() -> None:
    life = died(begun(Life(deaths=3), 0), 1_000 * S, CONFIG, 1.0)
    assert life.deaths == 4


@given(st.sets(st.integers(0, 63)), st.integers(1, 9))
def test_shards_are_shared_out_evenly(ours: set[int], flushers: int) -> None:
    found = shares(ours, flushers)
    assert sorted(shard for share in found for shard in share) == sorted(ours)
    sizes = [len(share) for share in found]
    assert max(sizes) - min(sizes) <= 1
    assert shares({0, 1, 2, 3}, 2) == [{0, 2}, {1, 3}]
