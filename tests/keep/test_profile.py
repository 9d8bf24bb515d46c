"""Profiles that people write themselves: what makes no sense is refused when it is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import SettingError, StoreError
from afterglow.keep.profile import Kind, Profile

GOOD = Kind(0.1, 0.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"decay_rate": -0.1}, "decay_rate=-0.1"),
        ({"decay_rate": math.nan}, "decay_rate=nan"),
        ({"decay_rate": "0.1"}, "decay_rate"),
        ({"start": 1.5}, "start=1.5"),
        ({"start": True}, "start=True"),
        ({"confidence": 7.0}, "confidence"),
        ({"curve": "exp"}, "power, exponential"),
    ],
    ids=str,
)
def test_a_kind_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Kind(**{"decay_rate": 0.1, "start": 0.5, **given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": 5}, "name=5"),
        ({"name": ""}, "name"),
        ({"kinds": [GOOD]}, "kinds"),
        ({"kinds": {1: GOOD}}, "kinds"),
        ({"kinds": {"a\0": GOOD}}, "kinds"),
        ({"kinds": {"a": 0.5}}, "kinds"),
        ({"tick_s": 0.0}, "tick_s"),
        ({"tick_s": math.nan}, "tick_s"),
        ({"tick_entries": 0}, "tick_entries"),
        ({"max_entries": -1}, "max_entries"),
        ({"max_payload_bytes": 1.5}, "a whole number"),
        ({"quota_policy": "oldest"}, "lru, lowest_confidence, soonest"),
    ],
    ids=str,
)
def test_a_profile_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Profile(**{"name": "mine", "kinds": {"a": GOOD}, **given})


def test_what_is_no_profile_opens_nothing(tmp_path: Path) -> None:
    wrong: Any = "spans"
    with pytest.raises(SettingError, match="profile='spans'"):
        afterglow.TraceStore(tmp_path / "m.db", profile=wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [5, None, b"m.db"], ids=str)
def test_what_is_no_path(wrong: Any) -> None:
    with pytest.raises(SettingError, match="neither the path"):
        afterglow.TraceStore(wrong)


def test_a_file_is_not_called_as_sqlite_calls_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="temporary folder"):
        afterglow.TraceStore(":memory:")
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_not_cut_off_at_a_nul(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="NUL"):
        afterglow.TraceStore(f"{tmp_path}/m\0.db")
    assert list(tmp_path.iterdir()) == []
