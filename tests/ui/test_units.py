"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.ui.units import bar, clock_time, count, duration, moment, percent, plural, size


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0 ns"),
        (7, "7 ns"),
        (999, "999 ns"),
        (999.6, "1.00 us"),
        (1_000, "1.00 us"),
        (9_994, "9.99 us"),
        (9_996, "10.0 us"),
        (99_960, "100 us"),
        (999_600, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (1_520_000_000, "1.52 s"),
        (119_400_000_000, "119 s"),
        (119_600_000_000, "2m 00s"),
        (125_000_000_000, "2m 05s"),
        (3_600_000_000_000, "1h 00m"),
        (7_500_000_000_000, "2h 05m"),
        (2 * 86_400_000_000_000 + 4 * 3_600_000_000_000, "2d 04h"),
        (-1_500, "-1.50 us"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ns: float | None, text: str) -> None:
    assert duration(ns) == text


@given(st.integers(0, 90 * 86_400_000_000_000))
def test_no_duration_is_wider_than_its_column(ns: int) -> None:
    assert len(duration(ns)) <= 7


@given(st.integers(1, 119_000_000_000))
def test_a_duration_says_what_it_was_to_a_percent(ns: int) -> None:
    number, unit = duration(ns).split()
    size = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert abs(float(number) * size - ns) <= ns * 0.01


def test_counts_set_thousands_apart_and_grow_short_only_when_huge() -> None:
    assert count(0) == "0"
    assert count(12_345_678) == "12,345,678"
    assert count(123_456_789) == "123M"
    assert count(999_600_000) == "1G"
    assert count(12_300_000_000) == "12.3G"
    assert count(12_300_000_000_000) == "12.3T"


def test_sizes() -> None:
    numbers = (0, 999, 1_000, 51_235_335, 1_435_869_184, 3 * 10**12)
    texts = ["0 B", "999 B", "1.00 kB", "51.2 MB", "1.44 GB", "3.00 TB"]
    assert [size(n) for n in numbers] == texts


def test_plurals() -> None:
    assert plural(1, "span") == "1 span"
    assert plural(0, "span") == "0 spans"
    assert plural(2, "process", "processes") == "2 processes"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (0.0001, "<0.1%"), (0.0006, "0.1%"), (0.123, "12.3%"), (0.9996, "100%")],
)
def test_percents(share: float, text: str) -> None:
    assert percent(share) == text


@given(st.floats(-1, 3), st.integers(1, 30), st.booleans())
def test_a_bar_is_as_wide_as_its_column(share: float, width: int, ascii_only: bool) -> None:
    assert len(bar(share, width, ascii_only=ascii_only)) == width


def test_bars_show_what_is_there() -> None:
    assert bar(0, 4) == "    "
    assert bar(0.001, 4) == "▏   "
    assert bar(0.5, 4) == "██  "
    assert bar(1, 4) == "████"
    assert bar(0.5, 4, ascii_only=True) == "##  "
    assert bar(0.5, 4, ascii_only=True).isascii()


def test_a_time_that_no_calendar_has_is_still_said() -> None:
    assert moment(1 << 80) == f"{1 << 80} ns"
    assert clock_time(1_700_000_000_123_456_789).endswith(".123")
