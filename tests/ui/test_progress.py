"""The bar shows itself only on a terminal, only after a second, and leaves nothing behind."""

from __future__ import annotations

import io

from afterglow.testing import ManualClock
from afterglow.ui.progress import Progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_what_is_quick_shows_nothing() -> None:
    terminal, clock = Terminal(), ManualClock()
    with Progress("reading", file=terminal, clock=clock) as progress:
        for done in range(9):
            clock.advance_s(0.1)
            progress(done, 10)
    assert terminal.getvalue() == ""


def test_what_takes_over_a_second_shows_a_bar_and_wipes_it_away() -> None:
    terminal, clock = Terminal(), ManualClock()
    with Progress("reading", file=terminal, clock=clock) as progress:
        clock.advance_s(1.1)
        progress(512, 2048)
        drawn = terminal.getvalue()
        progress(513, 2048)
        assert terminal.getvalue() == drawn  # ten frames a second at most
        clock.advance_s(0.2)
        progress(1024, 2048)
    assert "25.0%" in drawn and "512 of 2,048" in drawn and "██████ " in drawn
    assert "50.0%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nobody_watching_means_no_bar() -> None:
    file, clock = io.StringIO(), ManualClock()
    with Progress("reading", file=file, clock=clock) as progress:
        clock.advance_s(10)
        progress(1, 2)
    assert file.getvalue() == ""


def test_a_total_that_is_not_known_is_no_division() -> None:
    terminal, clock = Terminal(), ManualClock()
    with Progress("reading", file=terminal, clock=clock) as progress:
        clock.advance_s(2)
        progress(12_345, 0)
    assert "12,345" in terminal.getvalue()


def test_what_only_grows_is_counted() -> None:
    terminal, clock = Terminal(), ManualClock()
    with Progress("reading", file=terminal, clock=clock) as progress:
        progress.add(1_000)
        clock.advance_s(2)
        progress.add(1_000)
    assert terminal.getvalue() == "\r\x1b[Kreading  2,000\r\x1b[K"


def test_a_terminal_that_goes_away_ends_the_bar_only() -> None:
    terminal, clock = Terminal(), ManualClock()
    with Progress("reading", file=terminal, clock=clock) as progress:
        clock.advance_s(2)
        terminal.close()
        progress(1, 2)
        clock.advance_s(2)
        progress(2, 2)
