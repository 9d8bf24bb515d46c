"""Loops that look after a store: steps by hand, threads that end with close()."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import afterglow
from afterglow.clock import SystemClock
from afterglow.config import KeepConfig, load
from afterglow.errors import SettingError, StoreError
from afterglow.keep.maintenance import Chore, Maintenance
from afterglow.testing import ManualClock


def ours() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("afterglow-")}


def test_each_loop_is_one_thread_that_close_joins(tmp_path: Path) -> None:
    store = afterglow.TraceStore(tmp_path / "a.db")
    assert ours() == {f"afterglow-{name}" for name in ("flush", "decay", "tiers", "quota")}
    store.close()
    assert ours() == set()


def test_each_loop_is_optional(tmp_path: Path) -> None:
    with afterglow.TraceStore(tmp_path / "a.db", maintenance=False):
        assert ours() == set()
    with afterglow.TraceStore(
        tmp_path / "a.db", flush_interval_s=0.0, decay_interval_s=0.0, quota_interval_s=0.0
    ):
        assert ours() == {"afterglow-tiers"}


def test_the_intervals_are_the_designs() -> None:
    config = load(KeepConfig, {}, {})
    assert (config.decay_interval_s, config.tier_interval_s, config.quota_interval_s) == (
        60.0,
        300.0,
        300.0,
    )


def test_a_thread_does_its_step_at_each_interval() -> None:
    done = threading.Semaphore(0)

    class Clock(SystemClock):
        def wait(self, event: threading.Event, timeout_s: float) -> bool:
            assert timeout_s == 60
            return super().wait(event, 0.001)

    chore = Chore("decay", 60, done.release)
    maintenance = Maintenance([chore, Chore("off", 0, done.release)], Clock(), print, print)
    maintenance.start()
    for _ in range(3):
        assert done.acquire(timeout=30)
    maintenance.stop()
    assert ours() == set()


def test_what_fails_is_counted_and_said_once_a_minute() -> None:
    said: list[str] = []
    failures: list[int] = []
    clock = ManualClock()
    maintenance = Maintenance([], clock, said.append, lambda: failures.append(1))

    def full() -> None:
        raise StoreError("the disk is full")

    def broken() -> None:
        raise KeyError("a mistake of ours")

    for _ in range(3):
        maintenance.step(Chore("flush", 5, full))
    maintenance.step(Chore("decay", 60, broken))
    clock.advance_s(61)
    maintenance.step(Chore("flush", 5, full))
    assert said == [
        "flush of the trace store: the disk is full",
        "decay of the trace store: KeyError: 'a mistake of ours'",
        "flush of the trace store: the disk is full",
    ]
    assert len(failures) == 5


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="max_dirty_entries"):
        afterglow.TraceStore(tmp_path / "a.db", max_dirty_entries=0)
    with pytest.raises(SettingError, match="unknown setting 'dirty'"):
        afterglow.TraceStore(tmp_path / "a.db", dirty=1)
    with pytest.raises(ValueError, match="partition"):
        afterglow.TraceStore(tmp_path / "a.db", partition="")
