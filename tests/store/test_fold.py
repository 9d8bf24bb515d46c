from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from afterglow.errors import StoreBusyError
from afterglow.model.flat import Extra, FlatLink
from afterglow.model.span import Event
from afterglow.store import fold as fold_module
from afterglow.store.fold import fold
from afterglow.store.journal_files import Journal, journals_in
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from tests.store.conftest import NO_PID, OFFSET_NS, JournalWriter, row, spans_in

MakeWriter = Callable[..., JournalWriter]


def rows_of(database: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def journals(writer: JournalWriter) -> list[str]:
    if not writer.folder.is_dir():
        return []
    return sorted(p.name for p in writer.folder.iterdir() if ".journal" in p.name)


def test_every_field_of_a_span_comes_back(database: Path, writer: JournalWriter) -> None:
    extra = Extra(
        kind="client", status="error", status_description="it broke", status_text="warning",
        events=[Event("one", 3, {"b": b"\xff"}, 2), Event("two", 4)],
        links=[FlatLink(b"\xff" * 16, (1 << 64) - 1, "a=b", {"n": float("inf")}, 1)],
        trace_state="x=y", scope="lib", scope_version="1.2", dropped_attributes=3,
        dropped_events=4, dropped_links=5, remote_parent=True,
    )  # fmt: skip
    attributes = {"text": "é\n", "list": [1, 2.5, None], "big": (1 << 64) - 1, "bytes": b"\0"}
    writer.write(
        row((1 << 64) - 1, name="root", attributes=attributes),
        row(2, (1 << 64) - 1, name="kid", extra=extra, trace=b"\xfe" * 16),
        [1, 3, 0, "elsewhere", 1, 2, {}, ((1 << 64) - 1, "t", "task"), None],
        row(4, 3),
    )
    assert spans_in(database) == sorted(writer.written, key=lambda span: span.span_id)


def test_only_what_is_new_is_folded(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1))
    assert fold(database).batches == 1
    assert fold(database).batches == 0
    writer.write(row(2))
    writer.write(row(3))
    assert fold(database).spans == 2
    assert spans_in(database) == writer.written


def test_a_journal_that_may_go_on_stays_and_others_go(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(1))
    fold(database)
    assert journals(writer)  # it lives
    writer.rotate()
    writer.write(row(2))
    result = fold(database)
    assert result.journals_removed == 1
    assert {name.partition(".journal")[0] for name in journals(writer)} == {f"run-{NO_PID}-2"}
    writer.write(row(3), last=True)
    fold(database)
    assert journals(writer) == []
    assert [span.span_id for span in spans_in(database)] == [1, 2, 3]
    assert rows_of(database, "folded") == []


def test_a_dead_process_is_folded_removed_and_interrupted(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(1, 2), still_open=[row(2, end=None, name="outer")])
    with Database(database) as opened:
        assert opened.runs()[0].state == "running"
    writer.die()
    with Database(database) as opened:
        (run,) = opened.runs()
        assert (run.state, run.spans, run.interrupted_spans, run.end_ns) == (
            "interrupted", 1, 1, None,
        )  # fmt: skip
        assert [s.name for s in opened.spans(status="interrupted")] == ["outer"]
    assert not writer.folder.exists()  # the lock too: one file is left


def test_the_dead_are_found_without_their_folder(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1))
    spans_in(database)
    writer.die()
    for path in writer.folder.iterdir():
        path.unlink()
    writer.folder.rmdir()
    with Database(database) as opened:
        assert opened.runs()[0].state == "interrupted"


def test_open_spans_are_replaced_and_end(database: Path, writer: JournalWriter) -> None:
    def seen() -> list[tuple[str, bool]]:
        return [(span.name, span.interrupted) for span in spans_in(database)]

    extra = Extra(events=[Event("e", 1)], links=[FlatLink(b"\1" * 16, 1)])
    a, b = row(1, end=None, name="a", extra=extra), row(2, 1, end=None, name="b")
    writer.write(still_open=[a, b])
    assert seen() == [("a", True), ("b", True)]
    writer.write(row(2, 1, name="b"))  # says nothing of what is open
    assert seen() == [("a", True), ("b", False)]
    writer.write(still_open=[a, row(3, 1, end=None, name="c")])
    assert seen() == [("a", True), ("b", False), ("c", True)]
    assert len(rows_of(database, "events")) == len(rows_of(database, "links")) == 1
    writer.write(row(1, end=50, name="a"), still_open=[])
    assert seen() == [("a", False), ("b", False)]  # c was dropped: it is neither open nor ended
    assert rows_of(database, "events") == rows_of(database, "links") == []
    assert rows_of(database, "processes")[0][-3] == 0  # open_spans


def test_open_spans_within_one_portion(database: Path, writer: JournalWriter) -> None:
    writer.write(still_open=[row(1, end=None), row(2, end=None)])
    writer.write(row(1))
    writer.write()
    assert [(s.span_id, s.interrupted) for s in spans_in(database)] == [(1, False), (2, True)]


def test_books_and_counts_are_those_of_the_newest_batch(
    database: Path, make_writer: MakeWriter
) -> None:
    first, second = make_writer(), make_writer(pid=NO_PID + 1)
    first.write(row(1), counts={"f": 1, "g": 5})
    first.ledger["dropped"] = {"oldest": 2}
    first.ledger["recorded"] += 2
    first.write(row(2), counts={"f": 4, "g": 5})
    second.ledger["in_flight"] = 7
    second.ledger["recorded"] += 7
    second.write(row(1), counts={"f": 1})
    with Database(database) as opened:
        assert opened.ledger("run") == {
            "recorded": 12, "written": 3, "dropped": {"oldest": 2}, "in_flight": 7,
            "not_recorded": {}, "changed": {},
        }  # fmt: skip
        assert opened.counts() == {"f": 5, "g": 5}
        assert [audit.found for audit in opened.audit()] == [2, 1]
        assert all(audit.agrees for audit in opened.audit())
        assert opened.runs()[0].dropped == 2


def test_a_journal_of_the_same_name_is_another_journal(
    database: Path, make_writer: MakeWriter
) -> None:
    first = make_writer()
    first.write(row(1), last=True)
    first.die()
    fold(database)
    # The same run id in the same process again, with batches that begin at 1.
    second = make_writer()
    second.write(row(9))
    assert [span.span_id for span in spans_in(database)] == [1, 9]


# --- the writer's bound -------------------------------------------------------------------


def test_spans_that_went_by_the_bound_after_a_fold_are_not_lost(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(1), row(2))
    fold(database)
    writer.write(row(3))  # never folded
    gone = writer.path
    writer.rotate()
    for path in writer.folder.glob(f"{gone.name}*"):
        path.unlink()
    # What the writer states: three spans that were written are gone.
    writer.ledger["written"] -= 3
    writer.ledger["dropped"] = {"journal_limit": 3}
    writer.write(row(4))
    with Database(database) as opened:
        (audit,) = opened.audit()
        assert (audit.found, audit.rescued) == (3, 2)
        assert audit.ledger["dropped"] == {"journal_limit": 1}
        assert audit.agrees
        assert opened.runs()[0].dropped == 1


def test_spans_of_a_replaced_journal_are_not_lost(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1), row(2))
    fold(database)
    # The bound leaves one batch of books in place of a dead process's journal.
    writer.ledger["written"] = 0
    writer.ledger["dropped"] = {"journal_limit": 2}
    assert writer.connection is not None
    writer.connection.execute("DELETE FROM batches")
    writer.write()
    writer.die()
    with Database(database) as opened:
        (audit,) = opened.audit()
    assert (audit.found, audit.ledger["written"], audit.agrees) == (2, 2, True)


def test_a_journal_that_we_removed_ourselves_rescues_nothing(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(row(1), last=True)
    remove = Journal.remove

    def remove_and_stop(journal: Journal) -> None:
        remove(journal)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", remove_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fold(database)
    fold(database)
    assert [line for line in rows_of(database, "ledger") if line[1] == "rescued"] == []
    assert len(spans_in(database)) == 1


# --- others at work -----------------------------------------------------------------------


def test_a_live_writer_is_not_disturbed(database: Path, writer: JournalWriter) -> None:
    writer.write(*(row(i) for i in range(1, 50)))
    main = writer.path.read_bytes()
    log = writer.path.with_name(writer.path.name + "-wal").read_bytes()
    with Database(database):
        # Nothing went from its log into its file, and it never has to wait (its timeout is 0).
        assert writer.path.read_bytes() == main
        assert writer.path.with_name(writer.path.name + "-wal").read_bytes() == log
        writer.write(row(99))
    (journal,) = journals_in(writer.folder)
    batches = journal.batches(0)
    next(batches)
    writer.write(row(100))  # also while somebody is in the middle of reading
    batches.close()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        journal._connect().execute("DELETE FROM batches")
    journal.disconnect()
    assert len(spans_in(database)) == 51


def test_many_who_fold_at_once_fold_once(
    database: Path, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "_PORTION", 8)
    for number in range(6):
        writer = make_writer(pid=NO_PID + number)
        for i in range(12):
            writer.write(*(row(100 * i + k + 1) for k in range(4)), last=i == 11)
    start = threading.Barrier(4)
    counts: list[int] = []

    def read() -> None:
        start.wait()
        with Database(database) as opened:
            counts.append(sum(1 for _ in opened.spans()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [6 * 12 * 4] * 4
    with Database(database) as opened:
        assert all(audit.agrees for audit in opened.audit())


def test_whoever_folds_without_getting_on_is_waited_for_no_longer(
    database: Path, writer: JournalWriter
) -> None:
    writer.write(row(1))
    other = os.open(writer.folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    clock = ManualClock()
    with pytest.raises(StoreBusyError, match="another process"):
        fold(database, clock=clock)
    os.close(other)
    assert fold(database, clock=clock).spans == 1


def test_whoever_folds_and_gets_on_is_waited_for(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1))
    other = os.open(writer.folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    class Clock(ManualClock):
        waits = 0

        def wait(self, event: threading.Event, timeout_s: float) -> bool:
            self.waits += 1
            database.with_name(database.name + "-wal").write_bytes(b"x" * self.waits)
            if self.waits == 5:
                database.with_name(database.name + "-wal").unlink()
                os.close(other)
            return super().wait(event, 20.0)

    clock = Clock()
    assert fold(database, clock=clock).spans == 1
    assert clock.waits == 5


def test_progress_is_in_bytes_and_ends_at_the_total(
    database: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "_PORTION", 2)
    for i in range(5):
        writer.write(row(2 * i + 1), row(2 * i + 2))
    calls: list[tuple[int, int]] = []
    fold(database, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == 5
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1] == calls[0][1]


def test_times_are_on_the_wall_clock(database: Path, writer: JournalWriter) -> None:
    writer.write(row(1, start=3, end=8))
    (span,) = spans_in(database)
    assert (span.start_ns, span.end_ns) == (OFFSET_NS + 3, OFFSET_NS + 8)
