"""Files that cannot be written, are closed or cut off."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afterglow.errors import DamagedStoreError, StoreError
from afterglow.store.fold import fold
from afterglow.store.read import Database
from tests.store.conftest import JournalWriter, row

READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from afterglow.store.read import Database
if os.geteuid() == 0:  # to whom no permission matters
    os.setuid(65_534)
with Database(Path(sys.argv[1])) as opened:
    print(len(list(opened.spans())), len(list(opened.query("SELECT 1 FROM spans")[1])))
    print(*opened.folded.problems)
"""


def as_nobody(database: Path) -> subprocess.CompletedProcess[str]:
    """Read in a process that may write nothing here."""
    words = [sys.executable, "-c", READ_AS_NOBODY, str(database)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.fixture
def database() -> Iterator[Path]:
    # Not in pytest's folder, which is closed to others and shared with other sessions.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "spans.db"


@pytest.fixture
def readable_by_all(database: Path) -> Iterator[Callable[[], None]]:
    """Lets anybody look into the database's folder, and nobody write there, when called."""
    changed: list[tuple[Path, int]] = []

    def protect() -> None:
        for path in [database.parent, *database.parent.rglob("*")]:
            changed.append((path, path.stat().st_mode))
            path.chmod(0o555 if path.is_dir() else 0o444)

    yield protect
    for path, mode in changed:
        if path.exists():
            path.chmod(mode & 0o7777)


def test_what_cannot_be_written_is_read_as_it_is(
    database: Path, writer: JournalWriter, readable_by_all: Callable[[], None]
) -> None:
    writer.write(row(1), last=True)
    fold(database)
    readable_by_all()
    done = as_nobody(database)
    assert (done.stderr, done.stdout) == ("", "1 1\n\n")


def test_journals_that_cannot_be_folded_are_said(
    database: Path, writer: JournalWriter, readable_by_all: Callable[[], None]
) -> None:
    writer.write(row(1))
    fold(database)
    writer.write(row(2))
    readable_by_all()
    done = as_nobody(database)
    assert done.stderr == ""
    assert done.stdout.startswith("1 1\n1 journals are not shown")


def test_a_folder_where_no_file_can_be_made(
    database: Path, writer: JournalWriter, readable_by_all: Callable[[], None]
) -> None:
    writer.write(row(1))
    readable_by_all()
    done = as_nobody(database)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("afterglow.errors.StoreError:")
    assert str(database) in done.stderr.splitlines()[-1]


def test_a_closed_database_says_so(two_runs: Database) -> None:
    spans = two_runs.spans()
    next(spans)
    two_runs.close()
    two_runs.close()
    with pytest.raises(StoreError, match="closed"):
        list(spans)
    with pytest.raises(StoreError, match="closed"):
        two_runs.runs()
    with pytest.raises(StoreError, match="closed"):
        two_runs.query("SELECT 1")


def test_a_cut_off_file_is_damaged(database: Path, writer: JournalWriter) -> None:
    writer.write(*(row(i) for i in range(1, 2_000)), last=True)
    fold(database)
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    with pytest.raises(DamagedStoreError), Database(database) as opened:
        list(opened.spans())


def test_opening_and_closing_leaves_nothing_open(two_runs: Database) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    two_runs.close()
    with Database(two_runs.path):
        pass
    before = descriptors()
    for _ in range(20):
        with Database(two_runs.path) as opened:
            next(opened.spans())
            opened.query("SELECT * FROM spans")
    assert descriptors() == before
