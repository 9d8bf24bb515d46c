"""A snapshot of one back end is restored into another, and comes back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import afterglow
from afterglow.errors import SettingError
from tests.keep.test_store_snapshots import KEY, everything, filled, opened


def test_from_sqlite_into_postgresql_and_back(tmp_path: Path, postgres: str) -> None:
    with filled(tmp_path / "a.db") as store:
        before = everything(store)
        path = store.snapshot("one").path
    folder = tmp_path / "of postgres"
    with afterglow.TraceStore(
        postgres, maintenance=False, snapshot_key=KEY, snapshot_folder=str(folder)
    ) as shared:
        shared.restore(path)
        assert everything(shared) == before
        back = shared.snapshot("back").path
        assert back.parent == folder
    with opened(tmp_path / "b.db") as store:
        store.restore(back)
        assert everything(store) == before


def test_postgresql_has_no_folder_of_its_own(postgres: str) -> None:
    with (
        afterglow.TraceStore(postgres, maintenance=False, snapshot_key=KEY) as store,
        pytest.raises(SettingError, match="AFTERGLOW_SNAPSHOT_FOLDER"),
    ):
        store.snapshot()
