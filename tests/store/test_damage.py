"""What cannot be read costs itself alone, is counted, and is never deleted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from afterglow.store.fold import fold
from afterglow.store.read import Database
from tests.store.conftest import NO_PID, JournalWriter, row, spans_in

MakeWriter = Callable[..., JournalWriter]


def journals(writer: JournalWriter) -> list[str]:
    if not writer.folder.is_dir():
        return []
    return sorted(p.name for p in writer.folder.iterdir() if ".journal" in p.name)


def test_a_damaged_batch_is_counted_and_its_journal_kept(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(1))
    writer.write_body(b"no batch at all")
    writer.ledger["recorded"] += 1
    writer.ledger["written"] += 1
    writer.write(row(3))
    with Database(database) as opened:
        assert [span.span_id for span in opened.spans()] == [1, 3]
        (audit,) = opened.audit()
        assert (audit.damaged_batches, audit.agrees) == (1, False)
    writer.die()
    result = fold(database)
    assert len(result.problems) == 1
    assert "1 batch" in result.problems[0]
    kept = f"run-{NO_PID}-1.journal.damaged"
    assert set(journals(writer)) <= {kept, f"{kept}-wal", f"{kept}-shm"}
    with closing(sqlite3.connect(writer.folder / kept)) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (3,)
    assert fold(database).problems == []
    with Database(database) as opened:
        (audit,) = opened.audit()
        assert audit.damaged_batches == 1


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_damaged_page_costs_what_is_on_it(
    database: Path, writer: JournalWriter, which: int
) -> None:
    attributes = {"text": os.urandom(6_000).hex()}  # does not compress: some pages a batch
    for i in range(1, 9):
        writer.write(row(i, attributes=attributes))
    writer.die()
    with closing(sqlite3.connect(writer.path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'batches'"
        ).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(writer.path.read_bytes())
    # The table is a tree of a root and leaves; one leaf gets a header that cannot be.
    leaves = [at for at in range(0, len(data), 4096) if data[at] == 13 and at // 4096 + 1 != root]
    data[leaves[which]] = 99
    writer.path.write_bytes(data)
    found = [span.span_id for span in spans_in(database)]
    assert 0 < len(found) < 8
    assert found == sorted(set(found))
    assert (1 in found) == (which != 0)
    assert (8 in found) == (which != -1)
    assert any(name.endswith(".damaged") for name in journals(writer))


def test_a_journal_that_is_no_database(database: Path, make_writer: MakeWriter) -> None:
    good, bad = make_writer(), make_writer(pid=NO_PID + 1)
    good.write(row(1))
    bad.write(row(2))
    assert bad.connection is not None
    bad.connection.close()
    bad.path.write_bytes(b"garbage" * 1000)
    result = fold(database)
    assert len(result.problems) == 1  # it is in use: nobody takes it from under its writer
    assert bad.path.exists()
    bad.die()
    fold(database)
    assert not bad.path.exists()
    assert bad.path.with_name(bad.path.name + ".damaged").read_bytes() == b"garbage" * 1000
    assert [span.span_id for span in spans_in(database)] == [1]


def test_what_is_no_journal_of_this_version_is_left_alone(
    database: Path, make_writer: MakeWriter
) -> None:
    newer, foreign = make_writer(), make_writer(pid=NO_PID + 1)
    for writer, pragma in ((newer, "user_version=9"), (foreign, "application_id=7")):
        writer.write(row(1))
        assert writer.connection is not None
        writer.connection.execute(f"PRAGMA {pragma}")
        writer.die()
    result = fold(database)
    assert len(result.problems) == 2
    assert newer.path.exists()
    assert foreign.path.exists()


def test_an_empty_journal_of_a_dead_process_goes(database: Path, writer: JournalWriter) -> None:
    writer.die()
    writer.path.write_bytes(b"")
    assert fold(database).problems == []
    assert journals(writer) == []
