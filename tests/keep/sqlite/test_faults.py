"""Killed, beside others, on a full disk, on a file that cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import afterglow
from afterglow.errors import NotAStoreError, SettingError, StoreBusyError, StoreError
from afterglow.keep.sqlite.backend import SqliteBackend
from afterglow.keep.store import TraceStore

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.keep.sqlite.child", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finished(*words: object) -> list[str]:
    process = start(*words)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()


def whole(database: Path) -> None:
    """The file is sound, and its totals are what is in it."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert (
            connection.execute("SELECT entries, payload_bytes, fading FROM partitions").fetchall()
            == connection.execute(
                "SELECT count(*), sum(payload_bytes), sum(decay_rate > 0)"
                " FROM entries JOIN payloads USING (id) GROUP BY partition ORDER BY partition"
            ).fetchall()
        )
        for table, column in (
            ("payloads", "id"),
            ("entry_tags", "entry"),
            ("entry_pairs", "a"),
            ("entry_pairs", "b"),
        ):
            (loose,) = connection.execute(
                f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM entries)"
            ).fetchone()
            assert loose == 0


def killed_after(database: Path, flushes: int) -> int:
    """Kill a process that has just said so many flushes, in the middle of the next; the last
    flush that had returned."""
    process = start("flush_for_ever", database)
    assert process.stdout is not None
    last = -1
    for _ in range(flushes):
        last = int(process.stdout.readline().split()[1])
    os.kill(process.pid, signal.SIGKILL)
    for line in process.stdout:  # what it had still said
        last = int(line.split()[1])
    process.stdout.close()
    process.wait()
    return last


def check_what_was_promised(database: Path, last: int) -> None:
    with TraceStore(SqliteBackend(database, "default"), maintenance=False) as store:
        for number in range(last + 1):
            for part in range(40):
                entry = store.get(f"{number}/{part}")
                if part == 2 and number < last:
                    assert entry is None
                elif part != 2:
                    assert entry is not None
                    assert entry.payload == {"number": number, "text": "x" * 500}
            entry = store.get(f"{number}/3")
            assert entry is not None
            if number < last:
                assert entry.reinforcement_count == 1
    whole(database)


@pytest.mark.parametrize("flushes", [1, 5, 17])
def test_10_what_flush_returned_for_survives_a_kill(database: Path, flushes: int) -> None:
    check_what_was_promised(database, killed_after(database, flushes))


@pytest.mark.soak
def test_10_many_kills_of_one_database(tmp_path: Path) -> None:
    for turn in range(40):
        database = tmp_path / f"{turn}.db"
        check_what_was_promised(database, killed_after(database, 1 + turn))


def test_11_processes_on_one_file_wait_for_each_other(database: Path) -> None:
    children = [start("write_beside_others", database, name, 200) for name in "abc"]
    for child in children:
        assert child.communicate(timeout=120)[0] == "done\n"
        assert child.returncode == 0
    with afterglow.TraceStore(database, maintenance=False) as store:
        assert store.count() == 601
        shared = store.get("shared")
        assert shared is not None and shared.associated == ("a/0", "b/0", "c/0")
    with closing(sqlite3.connect(database)) as connection:
        counts = connection.execute("SELECT count FROM entry_pairs").fetchall()
        assert counts == [(200,)] * 3
    whole(database)


def test_11_who_waits_in_vain_says_so_and_keeps_the_marks(database: Path) -> None:
    store = TraceStore(SqliteBackend(database, "default", busy_ms=20), maintenance=False)
    store.store(1, kind="semantic", trace_id="a")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="another process"):
            store.flush()
        other.execute("ROLLBACK")
    assert (store.dirty, store.counters()["flush_errors"]) == (1, 1)
    store.flush()
    store.close()
    whole(database)


def test_a_full_disk_is_said_and_costs_nothing(database: Path) -> None:
    lines = finished("fill_a_small_disk", database, 4_000_000)
    said = dict(line.split(" ", 1) for line in lines)
    assert str(database) in said["error"]
    flushed, _, dirty, _, count = said["flushed"].split()
    assert int(flushed) > 0 and int(dirty) > 0
    assert int(count) == int(said["stored"])
    assert said["errors"] == "1"
    with afterglow.TraceStore(database, maintenance=False) as store:
        assert store.count() == int(said["stored"])
    whole(database)


def test_a_full_database_rolls_back_whole_chunks(database: Path) -> None:
    backend = SqliteBackend(database, "default")
    store = TraceStore(backend, maintenance=False)
    store.store("x" * 100_000, kind="semantic", trace_id="a")
    store.flush()
    writer = backend._connections._writer
    assert writer is not None
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count={pages + 5}")
    store.delete("a")
    for i in range(100):
        store.store("x" * 10_000, kind="semantic", trace_id=f"b{i}")
    with pytest.raises(StoreError, match="disk is full"):
        store.flush()
    assert store.count() == 100
    writer.execute("PRAGMA max_page_count=1000000")
    store.close()
    whole(database)
    with afterglow.TraceStore(database, maintenance=False) as again:
        assert again.count() == 100


READ_AS_NOBODY = """
import os, sys
from afterglow import TraceStore
from afterglow.errors import StoreError
from afterglow.keep.sqlite import backend  # while everything can be imported
if os.geteuid() == 0:  # to whom no permission matters
    os.setuid(65_534)
store = TraceStore(sys.argv[1], maintenance=False)
print(store.count(), store.get("a").payload, [e.trace_id for e in store.all()])
store.store(2, kind="semantic", trace_id="b")
store.reinforce("a")
for work in (store.flush, store.close):
    try:
        work()
    except StoreError as error:
        print(error)
print(store.count(), store.dirty, store.get("b").payload)
store.close(discard=True)
"""


@pytest.fixture
def readable_by_all() -> Iterator[Path]:
    # Not in pytest's folder, which is closed to others.
    folder = Path(tempfile.mkdtemp())
    yield folder / "memory.db"
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_a_file_that_cannot_be_written_is_read(readable_by_all: Path) -> None:
    database = readable_by_all
    with afterglow.TraceStore(database, maintenance=False) as store:
        store.store("payload", kind="semantic", trace_id="a")
    database.chmod(0o444)
    database.parent.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ_AS_NOBODY, str(database)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    read, flushed, closed, after = done.stdout.splitlines()
    assert read == "1 payload ['a']"
    assert flushed == closed
    assert flushed == f"{database} cannot be written; check its permissions and its folder's"
    assert after == "2 2 2"


def test_what_is_left_open_is_flushed_at_exit(database: Path) -> None:
    assert finished("leave_open", database) == []
    with afterglow.TraceStore(database, maintenance=False) as store:
        assert store.get("left") is not None


def test_what_multiprocessing_leaves_open_is_flushed_too(database: Path) -> None:
    assert finished("multiprocess", database) == ["0"]
    with afterglow.TraceStore(database, maintenance=False) as store:
        assert {entry.trace_id for entry in store.all()} == {"parent", "child"}


def test_a_fork_has_no_part_in_its_parents_store(database: Path) -> None:
    told, count = finished("fork", database)
    assert "forked; open a new one" in told
    assert count == "2"


@pytest.mark.parametrize(
    ("place", "error", "says"),
    [
        ("no/folder/x.db", StoreError, "opened"),
        (".", NotAStoreError, "folder"),
        ("mysql://host/db", SettingError, "postgresql://"),
    ],
)
def test_places_where_no_store_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        afterglow.TraceStore(place)


def test_what_is_no_database_of_ours_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, but longer than the header of one would be" * 10)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(NotAStoreError):
            afterglow.TraceStore(path)
        assert path.read_bytes() == before


def test_after_close_nothing_works_and_says_so(database: Path) -> None:
    store = afterglow.TraceStore(database)
    store.close()
    store.close()
    for work in (store.flush, store.count, store.all, store.decay_cycle):
        with pytest.raises(StoreError, match="closed"):
            work()
    with pytest.raises(StoreError, match="closed"):
        store.store(1, kind="semantic")
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_the_last_cycle_is_told_without_a_store(database: Path) -> None:
    with pytest.raises(StoreError, match="not there"):
        afterglow.last_decay_cycle(database)
    with afterglow.TraceStore(database, maintenance=False) as store:
        store.store(1, kind="semantic")
        store.flush()
        assert afterglow.last_decay_cycle(database) is None
        cycle = store.decay_cycle(ticks=2)
        assert afterglow.last_decay_cycle(database) == cycle
    assert afterglow.last_decay_cycle(database) == cycle
    assert afterglow.last_decay_cycle(database, "other") is None
