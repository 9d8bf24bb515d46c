"""Snapshots of real stores: taken, restored, killed in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import afterglow
from afterglow.errors import DamagedStoreError, StaleSnapshotError, StoreError
from afterglow.keep.entry import Entry
from afterglow.testing import ManualClock

KEY = "a secret of twenty-four"


def opened(path: Path, **more: Any) -> afterglow.TraceStore:
    return afterglow.TraceStore(path, maintenance=False, snapshot_key=KEY, **more)


def filled(path: Path, entries: int = 300, **more: Any) -> afterglow.TraceStore:
    store = opened(path, **more)
    for i in range(entries):
        kind = ("semantic", "sensory", "firmware")[i % 3]
        payload: Any = bytes([i % 256, 0]) if i % 5 == 0 else {"n": i, "é\0": [None, 1e-300]}
        store.store(
            payload, kind=kind, tags=[f"t{i % 7}"], trace_id=f"e{i}", intensity=i / 1000,
            embedding=[0.1, -2.0] if i % 2 else None, parent_id="e0" if i == 5 else None,
        )  # fmt: skip
    for i in range(1, 20):
        for _ in range(3 if i % 2 else 2):
            store.record_coactivation("e0", f"e{i}")
    store.decay_cycle(7)
    store.reinforce("e1")
    store.flush()
    return store


def everything(store: afterglow.TraceStore) -> list[Entry]:
    return sorted(store.all(), key=lambda entry: entry.trace_id)


def test_a_store_comes_back_as_it_was(tmp_path: Path) -> None:
    clock = ManualClock()
    with filled(tmp_path / "a.db", clock=clock) as store:
        before = everything(store)
        snapshot = store.snapshot()
        assert (snapshot.entries, snapshot.pairs) == (300, 19)
        assert snapshot.path.parent == tmp_path / "a.db.snapshots"
        clock.advance_s(1)
        for i in range(0, 300, 2):
            store.delete(f"e{i}")
        store.store("new", kind="semantic", trace_id="new")
        with pytest.raises(StaleSnapshotError):
            store.restore()
        assert store.get("new") is not None
        store.restore(force=True)
        assert everything(store) == before
        assert store.count() == 300
        # Co-activations that had not linked are there as well: one more, and they do.
        assert "e2" not in [e.trace_id for e in store.associated("e0")]
        assert store.record_coactivation("e0", "e2").count == 3
    with opened(tmp_path / "a.db") as store:
        assert store.get("e2") is not None


def test_what_waits_to_be_written_is_in_a_snapshot(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as store:
        store.store("not flushed", kind="semantic", trace_id="x")
        store.snapshot("one")
    with opened(tmp_path / "b.db") as other:
        other.restore(tmp_path / "a.db.snapshots" / "one.snapshot")
        entry = other.get("x")
        assert entry is not None and entry.payload == "not flushed"


def test_what_is_stored_while_a_snapshot_is_restored_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path / "a.db", 3) as store:
        store.snapshot("s")
        replace = store._backend.replace

        def overtaken(*given: Any) -> int:
            store.store("late", kind="semantic", trace_id="late")
            store.delete("e1")
            return replace(*given)

        monkeypatch.setattr(store._backend, "replace", overtaken)
        store.restore("s", force=True)
        assert (store.dirty, store.count(), store.get("late")) == (0, 3, None)
        assert store.get("e1") is not None


def test_restored_entries_go_on_fading_from_where_they_were(tmp_path: Path) -> None:
    clock = ManualClock()
    with filled(tmp_path / "a.db", clock=clock) as store:
        path = store.snapshot().path
        clock.advance_s(600)
        store.decay_cycle(ticks=None)
        later = everything(store)
    with opened(tmp_path / "b.db", clock=clock) as other:
        other.restore(path)
        other.decay_cycle(ticks=None)  # catches up with the time that the snapshot lay
        assert [e.strength for e in everything(other)] == [e.strength for e in later]


def test_a_damaged_snapshot_changes_nothing(tmp_path: Path) -> None:
    with filled(tmp_path / "a.db") as store:
        path = store.snapshot("one").path
        before = everything(store)
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        path.write_bytes(whole)
        with pytest.raises(DamagedStoreError):
            store.restore("one", force=True)
        assert everything(store) == before


def test_a_restore_that_fails_in_the_middle_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails while it is read, after it was proven whole."""
    from afterglow.keep.snapshot_file import SealedReader

    whole = SealedReader.content

    def cut(self: SealedReader) -> Any:
        content = whole(self)
        yield next(content)
        raise OSError(5, "Input/output error")

    with filled(tmp_path / "a.db") as store:
        store.snapshot("one")
        store.store("kept", kind="semantic", trace_id="kept")
        before = everything(store)
        monkeypatch.setattr(SealedReader, "content", cut)
        with pytest.raises(StoreError, match="Input/output error"):
            store.restore("one", force=True)
        assert everything(store) == before
        assert store.count() == 301


RESTORE = f"""
import os, signal, sys
import afterglow
from afterglow.keep.snapshot_file import SealedReader

whole, portions = SealedReader.content, int(sys.argv[2])
def content(self):
    for i, portion in enumerate(whole(self)):
        if i == portions:
            os.kill(os.getpid(), signal.SIGKILL)
        yield portion
    os.kill(os.getpid(), signal.SIGKILL)  # all was given, nothing is committed
SealedReader.content = content
store = afterglow.TraceStore(sys.argv[1], maintenance=False, snapshot_key={KEY!r})
store.restore("one", force=True)
"""


@pytest.mark.parametrize("portions", [0, 1, 99])
def test_killed_while_restoring_nothing_has_changed(tmp_path: Path, portions: int) -> None:
    path = tmp_path / "a.db"
    with filled(path) as store:
        store.snapshot("one")
        store.erase_by_kind("semantic")
        before = everything(store)
    done = subprocess.run([sys.executable, "-c", RESTORE, str(path), str(portions)], check=False)
    assert done.returncode == -signal.SIGKILL
    with opened(path) as store:
        assert everything(store) == before
        assert store.restore("one", force=True).entries == 300


TAKE = f"""
import os, signal, sys
import afterglow
from afterglow.keep import snapshots
snapshots._name = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
afterglow.TraceStore(sys.argv[1], maintenance=False, snapshot_key={KEY!r}).snapshot("two")
"""


def test_killed_while_it_is_taken_there_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    filled(path).close()
    done = subprocess.run([sys.executable, "-c", TAKE, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with opened(path) as store:
        assert store.list_snapshots() == []
        assert store.snapshot("two").entries == 300


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    with filled(tmp_path / "a.db", snapshot_folder="/proc/nowhere") as store:
        with pytest.raises(StoreError, match="/proc/nowhere"):
            store.snapshot()
        assert store.list_snapshots() == []
