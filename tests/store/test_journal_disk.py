"""A disk that misbehaves: nothing half there, nothing twice, and writing goes on when it can."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from afterglow.errors import SinkUnavailableError
from afterglow.store import journal as module
from afterglow.store.journal_files import alive
from tests.store.recorder import Make, Recorder, ids_in


def refused(one: Recorder, *span_ids: int, **values: Any) -> str:
    with pytest.raises(SinkUnavailableError) as caught:
        one.write(*span_ids, **values)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """The kernel refuses files beyond a size, for this process, until it is told otherwise."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(most_bytes: int) -> None:
        most = before[0] if most_bytes < 0 else most_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_write_that_the_kernel_refuses_is_not_half_there(
    recorder: Make, small_files: Callable[[int], None]
) -> None:
    one = recorder()
    small_files(150_000)
    written: list[int] = []
    for span_id in range(1, 100):
        try:
            one.write(span_id, bulk=10_000)
        except SinkUnavailableError:
            break
        written.append(span_id)
    assert 5 < len(written) < 20
    refused(one, 100, bulk=200_000)
    refused(one, 100, bulk=200_000)
    small_files(-1)
    one.write(len(written) + 1, bulk=10_000)
    assert ids_in(*one.journals()) == [*written, len(written) + 1]


def test_no_room_even_for_an_empty_journal(
    recorder: Make, small_files: Callable[[int], None]
) -> None:
    one = recorder()
    small_files(4_096)
    for _ in range(5):
        assert "full" in refused(one, 1)
    assert [path.suffix for path in one.folder.iterdir()] == [".lock"]
    small_files(-1)
    one.write(1)
    assert ids_in(*one.journals()) == [1]


def test_a_full_database_leaves_no_heap_of_empty_journals(
    recorder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = module._connected

    def full(path: Path) -> sqlite3.Connection:
        connection = connected(path)
        connection.execute("PRAGMA max_page_count=3")
        return connection

    one = recorder()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_connected", full)
        for _ in range(5):
            message = refused(one, 1, bulk=50_000)
            assert message == f"cannot write spans: the disk of {one.folder} is full: make room"
        assert one.journals() == []
    one.write(1, bulk=50_000)
    assert ids_in(*one.journals()) == [1]


def test_a_batch_that_was_committed_before_the_failure_is_not_there_twice(
    recorder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the WAL has the commit, and only then its index finds the disk full."""

    class Late:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, *arguments: Any) -> Any:
            self._connection.execute(*arguments)
            raise sqlite3.OperationalError("disk I/O error")

        def close(self) -> None:
            self._connection.close()

    one = recorder()
    one.write(1)
    connection = one.sink._connection
    assert connection is not None
    one.sink._connection = Late(connection)  # type: ignore[assignment]
    refused(one, 2)
    one.write(2)
    assert ids_in(*one.journals()) == [1, 2]


def test_a_file_where_the_folder_should_be(recorder: Make, tmp_path: Path) -> None:
    one = recorder()
    one.folder.write_text("in the way")
    message = refused(one, 1)
    assert "is not a directory: move it away or name another database" in message
    one.folder.unlink()
    one.write(1)
    assert ids_in(*one.journals()) == [1]


def test_a_database_in_a_folder_that_is_not_there(recorder: Make, tmp_path: Path) -> None:
    one = recorder(tmp_path / "none" / "a.db")
    assert f"the directory {tmp_path / 'none'} is not there: make it" in refused(one, 1)
    (tmp_path / "none").mkdir()
    one.write(1)
    assert ids_in(*one.journals()) == [1]


def test_a_deleted_folder_is_made_again(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    shutil.rmtree(one.folder)
    one.write(2)
    one.write(3)
    assert ids_in(*one.journals()) == [2, 3]
    assert (one.folder / f"run-{os.getpid()}.lock").exists(), "or a reader takes us for dead"
    assert alive(one.folder, f"run-{os.getpid()}")


def test_a_deleted_journal_is_followed_by_another(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    one.journals()[0].unlink()  # but not its -wal, which is no part of any other
    one.write(2)
    assert ids_in(*one.journals()) == [2]


def test_a_journal_that_somebody_locks_is_left_to_them(
    recorder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_S", 0.01)
    one = recorder()
    one.write(1)
    with closing(sqlite3.connect(one.journals()[0], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "another process holds" in refused(one, 2)
        one.write(2)
        other.execute("ROLLBACK")
    assert [ids_in(path) for path in one.journals()] == [[1], [2]]


def test_a_damaged_journal_is_left_alone(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    one.sink._leave()
    damaged = one.journals()[0]
    damaged.write_bytes(b"x" * 8_192)
    one.sink._connection = sqlite3.connect(damaged, isolation_level=None)
    one.sink._inode = (damaged.stat().st_dev, damaged.stat().st_ino)
    assert "is damaged" in refused(one, 2)
    one.write(2)
    assert ids_in(one.journals()[-1]) == [2]
    assert damaged.read_bytes() == b"x" * 8_192


def test_a_journal_that_has_become_read_only_is_followed_by_another(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    connection = one.sink._connection
    assert connection is not None
    connection.execute("PRAGMA query_only=ON")  # root may write any file: SQLite itself refuses
    assert f"check the permissions of {one.folder}" in refused(one, 2)
    one.write(2)
    assert ids_in(*one.journals()) == [1, 2]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EROFS, "cannot be written (Read-only file system): make it writable"),
        (errno.EACCES, "cannot be written (Permission denied): make it writable"),
        (errno.ENOSPC, "is full (No space left on device): make room"),
        (errno.EDQUOT, "is full (Disk quota exceeded): make room"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_kernel_says_is_passed_on_with_advice(
    recorder: Make, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    one = recorder()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        assert refused(one, 1).endswith(advice)
    one.write(1)
    assert ids_in(*one.journals()) == [1]
