"""Snapshots: what comes back, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.errors import (
    AfterglowError,
    DamagedStoreError,
    NewerStoreError,
    NotAStoreError,
    NotFoundError,
    SettingError,
    StaleSnapshotError,
    StoreError,
)
from afterglow.keep.backend import Pair, Totals
from afterglow.keep.entry import Moment, Record
from afterglow.keep.snapshots import Snapshots

KEY = "a secret of twenty-four"
NOON = 1_800_000_000_000_000_000


def a_record(number: int, payload: str | bytes = '{"a":1}') -> Record:
    return Record(
        trace_id=f"t{number}",
        kind="episodic",
        curve="power",
        decay_rate=0.02,
        anchor=0.1 + 0.2,
        anchor_tick=(1 << 62) - number,
        peak_strength=1.0,
        valence=-0.6,
        intensity=1e-300,
        confidence=0.9,
        tags=("error", "é\x00"),
        origin="direct_experience",
        source_id=None if number % 2 else "s",
        created_at=NOON + number,
        last_reinforced=NOON,
        reinforcement_count=3,
        parent_id=None,
        unresolved=True,
        consolidation_candidate=False,
        embedding=b"\x00" * 8 if number % 2 else None,
        payload=payload,
    )


class ListBackend:
    """As much of a back end as snapshots ask, on a list: what it was given can be looked at."""

    def __init__(self, content: list[Any], *, partition: str = "default", at: int = NOON) -> None:
        self.content = content
        self.replaced = 0
        self.partition = partition
        self.changed_at = at
        self.moment = Moment(tick=7, ticked_at=NOON, advanced_at=NOON)

    def totals(self) -> Totals:
        return Totals(entries=3, changed_at=self.changed_at, moment=self.moment)

    def export(self) -> Iterator[Any]:
        yield from self.content

    def replace(self, content: Iterator[Any], moment: Moment, now_ns: int) -> int:
        self.replaced += 1
        came = list(content)  # what it raises comes out before anything has changed
        self.content, self.moment, self.changed_at = came, moment, now_ns
        return sum(len(p) for p in came if isinstance(p[0], Record))


CONTENT: list[Any] = [
    [a_record(1), a_record(2, b"\xff\x00"), a_record(3, '"\\u00e9\\u0000"')],
    [a_record(4, "é" * 1000)],
    [Pair("t1", "t2", 3, True)],
]


def snapshots_of(backend: Any, folder: Path | None, **given: Any) -> Snapshots:
    return Snapshots(backend, **{"profile": "memory", "key": KEY, "folder": folder, **given})


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    return snapshots_of(ListBackend(CONTENT), tmp_path / "s").take("one", NOON).path


def test_everything_comes_back(taken: Path) -> None:
    empty = ListBackend([], at=0)
    snapshot = snapshots_of(empty, taken.parent).restore("one", NOON + 5)
    assert empty.content == CONTENT
    assert empty.moment == Moment(tick=7, ticked_at=NOON, advanced_at=NOON)
    assert (snapshot.name, snapshot.entries, snapshot.pairs) == ("one", 4, 1)


def test_an_empty_store_has_a_snapshot_too(tmp_path: Path) -> None:
    snapshot = snapshots_of(ListBackend([]), tmp_path).take(None, NOON)
    other = ListBackend(CONTENT, at=NOON)
    snapshots_of(other, tmp_path).restore(None, NOON)
    assert (snapshot.entries, other.content) == (0, [])


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_can_read_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = snapshots_of(ListBackend(CONTENT), tmp_path / "new").take("one", NOON).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def refused(path: Path, error: type[AfterglowError], **given: Any) -> str:
    """Restoring raises this, on one line, and changes nothing; the line."""
    content = [[a_record(9)]]
    store = ListBackend(content, at=0)
    with pytest.raises(error) as caught:
        snapshots_of(store, path.parent, **given).restore(path, NOON)
    assert (store.content, store.replaced) == (content, 0), "it was touched before it was proven"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 1 << 20), flip=st.integers(1, 255))
def test_no_byte_can_be_changed(taken: Path, place: int, flip: int) -> None:
    whole = bytearray(taken.read_bytes())
    whole[place % len(whole)] ^= flip
    damaged = taken.with_name("damaged.snapshot")
    damaged.write_bytes(whole)
    store = ListBackend([], at=0)
    with pytest.raises((DamagedStoreError, NotAStoreError, NewerStoreError, SettingError)):
        snapshots_of(store, taken.parent).restore(damaged, NOON)
    assert (store.content, store.replaced) == ([], 0)


def test_no_byte_can_be_missing_or_more(taken: Path) -> None:
    whole = taken.read_bytes()
    cut = taken.with_name("cut.snapshot")
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        refused(cut, StoreError)
    cut.write_bytes(whole + b"\0")
    refused(cut, DamagedStoreError)


def test_a_seal_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever can write the folder but does not know the key can make no snapshot of ours."""
    theirs = snapshots_of(ListBackend(CONTENT), tmp_path, key="another secret entirely")
    path = theirs.take("forged", NOON).path
    assert "another key" in refused(path, SettingError)
    # Even when it names our key: the seal cannot be made without it.
    ours = snapshots_of(ListBackend(CONTENT), tmp_path).take("ours", NOON).path
    key_id = slice(ours.read_bytes().index(b"key_id") + 8, ours.read_bytes().index(b"key_id") + 16)
    forged = bytearray(path.read_bytes())
    assert len(path.read_bytes()) == len(ours.read_bytes())
    forged[key_id] = ours.read_bytes()[key_id]
    path.write_bytes(forged)
    refused(path, DamagedStoreError)


def test_a_file_that_changes_while_it_is_read_is_refused(taken: Path) -> None:
    """Between the proof and the reading, whoever can write the file could have another in it."""

    class Slow(ListBackend):
        def replace(self, content: Iterator[Any], moment: Moment, now_ns: int) -> int:
            with taken.open("r+b") as file:
                file.seek(-1, os.SEEK_END)  # the seal alone tells
                file.write(bytes([taken.read_bytes()[-1] ^ 1]))
            return super().replace(content, moment, now_ns)

    store = Slow([], at=0)
    with pytest.raises(DamagedStoreError):
        snapshots_of(store, taken.parent).restore("one", NOON)
    assert store.content == []


def test_foreign_and_newer_files_say_so(tmp_path: Path, taken: Path) -> None:
    foreign = tmp_path / "foreign.snapshot"
    foreign.write_bytes(b"SQLite format 3\0" * 100)
    assert "no snapshot of ours" in refused(foreign, NotAStoreError)
    whole = bytearray(taken.read_bytes())
    whole[8] = 2
    foreign.write_bytes(whole)
    assert "upgrade Afterglow" in refused(foreign, NewerStoreError)


@pytest.mark.parametrize(("key", "words"), [(None, "need a key"), ("short", "5 characters")])
def test_without_a_good_key_there_is_no_snapshot(
    taken: Path, tmp_path: Path, key: str | None, words: str
) -> None:
    assert words in refused(taken, SettingError, key=key)
    with pytest.raises(SettingError, match="AFTERGLOW_SNAPSHOT_KEY") as caught:
        snapshots_of(ListBackend([]), tmp_path / "none", key=key).take("two", NOON)
    assert "short" not in str(caught.value), "a secret was shown"
    assert not (tmp_path / "none").exists()


def test_a_store_that_changed_since_is_kept_unless_asked(taken: Path) -> None:
    store = ListBackend([[a_record(9)]], at=NOON + 1)
    snapshots = snapshots_of(store, taken.parent)
    with pytest.raises(StaleSnapshotError, match="has changed since"):
        snapshots.restore("one", NOON + 2)
    assert store.content == [[a_record(9)]]
    snapshots.restore("one", NOON + 2, force=True)
    assert store.content == CONTENT


def test_another_partition_or_profile_is_kept_unless_asked(taken: Path) -> None:
    for partition, profile in (("other", "memory"), ("default", "spans")):
        store = ListBackend([], partition=partition, at=0)
        snapshots = snapshots_of(store, taken.parent, profile=profile)
        with pytest.raises(StaleSnapshotError, match="--force"):
            snapshots.restore("one", NOON)
        assert store.content == []
        snapshots.restore("one", NOON, force=True)
        assert store.content == CONTENT


def test_a_name_is_taken_once(taken: Path) -> None:
    before = taken.read_bytes()
    with pytest.raises(StoreError, match="is there already"):
        snapshots_of(ListBackend([]), taken.parent).take("one", NOON)
    assert taken.read_bytes() == before
    assert [f.name for f in taken.parent.iterdir()] == ["one.snapshot"]


def test_names_stay_in_the_folder_and_paths_lead_anywhere(tmp_path: Path) -> None:
    snapshots = snapshots_of(ListBackend(CONTENT), tmp_path / "s")
    assert snapshots.take("a.snapshot", NOON).path == tmp_path / "s" / "a.snapshot"
    assert snapshots.take(str(tmp_path / "x" / "b"), NOON).path == tmp_path / "x" / "b"
    for name in ("", "..", " ", "a\0b", "a\nb"):
        with pytest.raises(SettingError, match="name of a snapshot"):
            snapshots.take(name, NOON)


def test_one_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for name in ("nothing", None):
        with pytest.raises(NotFoundError, match="no snapshot"):
            snapshots_of(ListBackend([]), tmp_path).restore(name, NOON)


def test_a_store_that_is_no_file_needs_a_folder(tmp_path: Path) -> None:
    snapshots = snapshots_of(ListBackend(CONTENT), None)
    for ask in (snapshots.listed, lambda: snapshots.take("one", NOON)):
        with pytest.raises(SettingError, match="AFTERGLOW_SNAPSHOT_FOLDER"):
            ask()
    assert snapshots.take(tmp_path / "by path", NOON).entries == 4


def test_the_newest_come_first_and_the_oldest_go(tmp_path: Path) -> None:
    mine = snapshots_of(ListBackend(CONTENT), tmp_path)
    theirs = snapshots_of(ListBackend([], partition="theirs"), tmp_path)
    names = [mine.take(None, NOON + i // 2).name for i in range(14)]
    theirs.take("theirs", NOON - 5)
    (tmp_path / "broken.snapshot").write_bytes(b"AGSNAP")
    listed = mine.listed()
    assert [s.name for s in listed] == [*reversed(names), "broken"]
    assert [s.problem is None for s in listed] == [True] * 14 + [False]
    assert {s.name for s in mine.prune()} == set(names[:4])
    assert [s.name for s in mine.listed()] == [*reversed(names[4:]), "broken"]
    assert [s.name for s in theirs.listed()] == ["theirs", "broken"]
    with pytest.raises(SettingError, match="keep=0"):
        mine.prune(0)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    class Failing(ListBackend):
        def export(self) -> Iterator[Any]:
            yield self.content[0]
            raise StoreError("the database went away")

    with pytest.raises(StoreError, match="went away"):
        snapshots_of(Failing(CONTENT), tmp_path).take("one", NOON)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    import resource

    big = [[a_record(i, os.urandom(1000)) for i in range(1000)]]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match="nothing was changed"):
            snapshots_of(ListBackend(big), tmp_path).take("one", NOON)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="nothing was changed"):
        snapshots_of(ListBackend(CONTENT), tmp_path / "file" / "s").take("one", NOON)
