from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from afterglow.errors import (
    AfterglowError,
    DamagedStoreError,
    NewerStoreError,
    NotAStoreError,
    StoreBusyError,
    StoreError,
)
from afterglow.store import schema
from afterglow.store.beaver import is_beaver_file
from afterglow.store.insert import insert_spans
from afterglow.store.read import Database
from tests.store.conftest import JournalWriter, row, spans_in


def declared(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def test_a_fresh_schema_is_the_sum_of_the_migrations(database: Path) -> None:
    with closing(schema.initialise(database)) as ours, closing(sqlite3.connect(":memory:")) as sum_:
        numbers = []
        for number, text in schema._migrations():
            numbers.append(number)
            sum_.executescript(text)
        assert numbers == list(range(1, schema.SCHEMA_VERSION + 1))
        assert declared(ours) == declared(sum_)
        assert ours.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert ours.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)


@pytest.mark.parametrize("attempt", range(10))
def test_many_may_make_the_file_at_once(database: Path, attempt: int) -> None:
    start = threading.Barrier(4)
    failures: list[Exception] = []

    def make() -> None:
        try:
            start.wait()
            schema.initialise(database).close()
        except (sqlite3.Error, AfterglowError) as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    # Not the header alone: the newest page may still be in the write-ahead log.
    assert schema.verify(database) in (0, schema.SCHEMA_VERSION)
    with closing(schema.connect(database, "ro")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE logs (x)")
        connection.commit()


def newer(path: Path) -> None:
    with closing(schema.initialise(path)) as connection:
        connection.execute("PRAGMA user_version=99")


def damaged(path: Path) -> None:
    with closing(schema.initialise(path)):
        pass
    data = bytearray(path.read_bytes())
    data[100:] = b"\xaa" * (len(data) - 100)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.write_text("just text, and rather a lot of it " * 9), NotAStoreError),
        (lambda path: path.write_text("short"), NotAStoreError),
        (Path.mkdir, NotAStoreError),
        (foreign, NotAStoreError),
        (newer, NewerStoreError),
        (damaged, DamagedStoreError),
        (lambda path: None, StoreError),
    ],
)
def test_what_cannot_be_opened_is_one_line_that_names_the_file(
    database: Path, make: object, error: type[AfterglowError]
) -> None:
    make(database)  # type: ignore[operator]
    before = database.read_bytes() if database.is_file() else None
    with pytest.raises(error) as raised:
        Database(database)
    assert str(database) in str(raised.value)
    assert "\n" not in str(raised.value)
    # Somebody else's file is left as it was, without SQLite's helpers beside it.
    assert (database.read_bytes() if database.is_file() else None) == before
    assert {path.name for path in database.parent.iterdir()} <= {database.name}


def test_an_empty_file_becomes_ours(database: Path, writer: JournalWriter) -> None:
    database.touch()
    writer.write(row(1))
    assert len(spans_in(database)) == 1


def test_a_file_whose_making_was_cut_off_becomes_ours(
    database: Path, writer: JournalWriter
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert database.stat().st_size
    writer.write(row(1))
    assert len(spans_in(database)) == 1


def test_a_file_that_another_process_holds_is_busy(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(row(1))
    spans_in(database)
    writer.write(row(2))
    monkeypatch.setattr(schema, "_BUSY_MS", 10)
    monkeypatch.setattr(schema.connect, "__kwdefaults__", {"busy_ms": 10})
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="another process"):
            Database(database)
        other.execute("ROLLBACK")
    assert len(spans_in(database)) == 2


def test_after_reading_there_is_one_file(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1), last=True)
    writer.die()
    with Database(database) as opened:
        assert list(opened.query("SELECT count(*) FROM spans")[1]) == [(1,)]
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_a_folder_that_is_not_there(tmp_path: Path, writer: JournalWriter) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        insert_spans(tmp_path / "no" / "x.db", [], writer.process)


_LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM awaited").fetchone()[0])
connection.close()
"""


def seen_by_another_process(database: Path) -> int:
    command = [sys.executable, "-c", _LOOK, str(database)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("look", [schema.verify, is_beaver_file])
def test_a_look_leaves_the_locks_of_this_process_alone(
    database: Path, look: Callable[[Path], object]
) -> None:
    with closing(schema.initialise(database)) as ours:
        ours.execute("INSERT INTO awaited VALUES ('a', '1')")
        look(database)
        # Were our locks gone, it would take itself for the last one, and remove the log.
        assert seen_by_another_process(database) == 1
        ours.execute("INSERT INTO awaited VALUES ('a', '2')")
        assert seen_by_another_process(database) == 2
