"""The bound on journals that nobody reads: the oldest go, and every span in them is counted."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from afterglow.ledger import balanced
from tests.store.recorder import Make, fill, heads_and_ids, ids_in

MIB = 1 << 20


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_oldest_journals_go_and_are_counted(recorder: Make) -> None:
    one = recorder(max_journal_bytes=MIB)
    for number in range(1, 51):
        one.write(number, bulk=100_000)
        assert size_of(one.folder) <= 1.3 * MIB
    left = ids_in(*one.journals())
    # The newest are there, without a hole; the others are counted.
    assert left == list(range(51 - len(left), 51))
    assert 3 <= len(left) < 15
    assert one.sink.counters()["journal_limit"] == 50 - len(left)


def dead_process(database: Path, batches: int) -> int:
    """A process that wrote so many batches of 100,000 bytes and was killed; its pid."""
    root = str(Path(__file__).parents[2])
    program = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tests.store.recorder import Recorder, fill\n"
        "one = Recorder(Path(sys.argv[1]), run_id='dead', journal_file_bytes=256 * 1024)\n"
        f"fill(one, 1001, {batches}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program, str(database), root]
    with subprocess.Popen(command, cwd=root) as process:
        assert process.wait() == -signal.SIGKILL
    return process.pid


@pytest.mark.parametrize("batches", [8, 2])
def test_journals_of_dead_processes_go_too_and_their_books_say_so(
    recorder: Make, tmp_path: Path, batches: int
) -> None:
    pid = dead_process(tmp_path / "a.db", batches)
    one = recorder(max_journal_bytes=MIB)
    for number in range(1, 13):
        one.write(number, bulk=100_000)
    theirs = sorted(one.folder.glob(f"dead-{pid}-*.journal"))
    heads = [head for path in theirs for head in heads_and_ids(path)[0]]
    left = ids_in(*theirs)
    assert len(left) < batches
    books = heads[-1].ledger
    assert balanced(books)
    assert books["written"] == len(left)
    assert books["dropped"] == {"journal_limit": batches - len(left)}
    assert heads[-1].process.run_id == "dead"
    # Ours were younger.
    assert one.sink.counters()["journal_limit"] == 0 or not left


def test_notes_of_the_dead_go_in_the_end(recorder: Make, tmp_path: Path) -> None:
    pid = dead_process(tmp_path / "a.db", 1)
    one = recorder(max_journal_bytes=MIB)
    fill(one, 1, 60)
    assert list(one.folder.glob(f"dead-{pid}-*.journal")) == []


def test_journals_of_the_living_stay(recorder: Make) -> None:
    other = recorder(run_id="other")
    other.write(7, bulk=100_000)
    one = recorder(max_journal_bytes=MIB)
    fill(one, 1, 30)
    assert ids_in(*one.folder.glob("other-*.journal")) == [7]


def test_nothing_goes_while_somebody_folds(recorder: Make) -> None:
    one = recorder(max_journal_bytes=MIB)
    one.write(1)
    folding = os.open(one.folder, os.O_RDONLY)
    fcntl.flock(folding, fcntl.LOCK_EX)
    fill(one, 2, 30)
    assert one.sink.counters()["journal_limit"] == 0
    os.close(folding)
    fill(one, 32, 4)
    assert one.sink.counters()["journal_limit"] > 0
