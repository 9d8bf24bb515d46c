"""Writers that are killed, that meet, and that find no room: every span once, nothing half."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterglow.clock import SystemClock
from afterglow.config import RetentionConfig
from afterglow.counts import Counts
from afterglow.errors import SinkUnavailableError
from afterglow.keep.retention import Retention
from afterglow.model.segment import SegmentPart
from afterglow.sink.project_files import ProjectFiles
from afterglow.sink.store import StoreSink
from afterglow.store.read import Database
from tests.sink.payloads import buffered, part_with
from tests.sink.test_store_anyhow import content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "afterglow.db"


def page(number: int, traces: int = 3) -> list[SegmentPart]:
    """A page of traces with an event and a child that another page has too."""
    parts = []
    for trace in range(number, number + traces):
        root = buffered(1, trace=trace, end=50, events=[{"name": "e"}])
        children = [buffered(at, 1, trace=trace, start=at, service="db") for at in range(2, 6)]
        parts.append(part_with([root, *children]))
    return parts


def store(path: Path, *pages: list[SegmentPart]) -> None:
    with contextlib.closing(StoreSink(path)) as sink:
        for one in pages:
            sink.write(one)


# --- kill -9 ------------------------------------------------------------------------------

# Delivers pages that overlap, and kills itself before the n-th statement to the file.
DELIVER_AND_DIE = """
import os, signal, sys
from pathlib import Path
from afterglow.sink.store import StoreSink
from afterglow.store import received as module
from tests.sink.test_store_faults import page

left = int(sys.argv[2])
really = module.initialise

def initialise(path):
    connection = really(path)
    def count(statement):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(count)
    return connection

module.initialise = initialise
sink = StoreSink(Path(sys.argv[1]))
for number in (1, 2):
    sink.write(page(number))
    print(number, flush=True)
sink.close()
"""


@pytest.mark.parametrize("remainder", range(3))
def test_a_writer_may_be_killed_anywhere(path: Path, tmp_path: Path, remainder: int) -> None:
    store(tmp_path / "whole.db", page(1), page(2))
    whole = content(tmp_path / "whole.db")
    for statement in range(remainder, 1_000, 39):
        for file in tmp_path.glob("afterglow*"):
            file.unlink()
        words = [sys.executable, "-c", DELIVER_AND_DIE, str(path), str(statement)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if path.exists():
            check(path, [int(number) for number in done.stdout.split()])
        store(path, page(2), page(1))
        assert content(path) == whole
        if done.returncode == 0:
            assert statement > 39, "it was never killed"
            return
    raise AssertionError("it never came to its end")


def check(path: Path, acknowledged: list[int]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            assert not acknowledged
            return
    with Database(path) as database:
        found = Counter((span.trace_id, span.span_id) for span in database.spans())
        assert all(audit.agrees for audit in database.audit())
        _, rows = database.query("SELECT count(*), sum(spans) FROM segments")
        ((segments, spans),) = rows
    assert set(found.values()) <= {1}
    assert len(found) == (spans or 0) == 5 * segments
    for number in acknowledged:
        assert {(trace, 1) for trace in range(number, number + 3)} <= set(found)


# --- writers that meet, readers beside them -----------------------------------------------


def delivered(path: Path, one: list[SegmentPart]) -> bool:
    """Try it, as a flusher does: on a busy machine others may hold the file for too long."""
    try:
        store(path, one)
    except SinkUnavailableError:
        return False
    return True


def test_writers_in_several_threads_take_turns(path: Path, tmp_path: Path) -> None:
    pages = [page(number) for number in range(1, 9)]
    store(tmp_path / "whole.db", *pages)
    failures: list[Exception] = []

    def deliver(step: int) -> None:
        try:
            for one in [*pages[::step], *pages]:
                while not delivered(path, one):
                    pass
        except Exception as error:  # noqa: BLE001  it is looked at in the main thread
            failures.append(error)

    threads = [threading.Thread(target=deliver, args=(step,)) for step in (1, -1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert content(path) == content(tmp_path / "whole.db")


def test_a_reader_sees_one_moment(path: Path) -> None:
    with contextlib.closing(StoreSink(path)) as sink:
        sink.write(page(1))
        with Database(path) as database:
            spans = database.spans()
            first = next(spans)
            sink.write(page(10))
            assert len([first, *spans]) == 15
            assert len(list(database.spans())) == 30
            assert {run.state for run in database.runs()} == {"received"}


def test_another_writer_is_waited_for_and_then_said(path: Path) -> None:
    store(path, page(1))
    files = ProjectFiles(path, busy_ms=10)
    counts = Counts()
    sink = StoreSink(files, counts=counts)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailableError, match="another process holds it"):
            sink.write(page(10))
        holder.execute("ROLLBACK")
    assert counts.total("sink_retries") == 1
    sink.write(page(10))
    files.close()
    with Database(path) as database:
        assert len(list(database.spans())) == 30


def test_a_file_that_was_deleted_is_made_again(path: Path) -> None:
    with contextlib.closing(StoreSink(path)) as sink:
        sink.write(page(1))
        for file in path.parent.glob("afterglow*"):
            file.unlink()
        sink.write(page(2))
    with Database(path) as database:
        assert {span.trace_id for span in database.spans()} == {2, 3, 4}


# --- no room ------------------------------------------------------------------------------


@contextlib.contextmanager
def files_of_at_most(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 20_000, 100_000])
def test_a_full_disk_is_waited_for(path: Path, tmp_path: Path, room: int) -> None:
    store(path, page(1))
    many = [part for number in range(10, 500, 3) for part in page(number)]
    with contextlib.closing(StoreSink(path)) as sink:
        with files_of_at_most(path.stat().st_size + room):
            for _ in range(2):
                with pytest.raises(SinkUnavailableError, match=r"afterglow\.db"):
                    sink.write(many)
        check(path, [1])
        with Database(path) as database:
            assert len(list(database.spans())) == 15
        sink.write(many)
    store(tmp_path / "whole.db", page(1), many)
    assert content(path) == content(tmp_path / "whole.db")


# --- retention ----------------------------------------------------------------------------


def test_what_is_forgotten_stays_in_the_books(path: Path) -> None:
    store(path, page(1))
    trace = f"{2:032x}"
    with Retention(path, RetentionConfig(), clock=SystemClock()) as retention:
        retention.step()
        assert retention.forget(trace).spans == 5
    with Database(path) as database:
        assert {span.trace_id for span in database.spans()} == {1, 3}
        audits = database.audit()
        _, left = database.query("SELECT DISTINCT trace_id FROM segments")
        assert trace not in {row[0] for row in left}
        statistics = {s.name: s.count for s in database.statistics()}
    assert all(audit.agrees for audit in audits)
    assert sum(sum(audit.forgotten.values()) for audit in audits) == 5
    assert statistics == {"work": 15}  # what was forgotten still counts


def test_a_repeat_after_forgetting_is_a_new_span(path: Path) -> None:
    """docs/guarantees.md says so; the books hold all the same."""
    store(path, page(1))
    with Retention(path, RetentionConfig(), clock=SystemClock()) as retention:
        retention.step()
        retention.forget(f"{2:032x}")
    store(path, page(1))
    with Database(path) as database:
        assert len(list(database.spans())) == 15
        audits = database.audit()
    assert all(audit.agrees for audit in audits)
    assert sum(audit.ledger["recorded"] for audit in audits) == 20
