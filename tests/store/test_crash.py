"""kill -9 anywhere while folding: afterwards every span is there once, and no journal twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from afterglow.store.read import Database
from tests.store.conftest import NO_PID, JournalWriter, row

# Folds in small portions, and kills itself before the n-th statement in the named file.
FOLD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from afterglow.store import fold as module

module._PORTION = 10
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
module.fold(Path(sys.argv[1]))
"""


def fold_until(database: Path, statement: int) -> bool:
    """Fold in a process that is killed before that statement; False if it came to the end."""
    words = [sys.executable, "-c", FOLD_AND_DIE, str(database), str(statement)]
    done = subprocess.run(words, check=False, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("step", [1, 23])
def test_a_fold_may_be_killed_anywhere(
    database: Path, make_writer: Callable[..., JournalWriter], step: int
) -> None:
    writers = [make_writer(pid=NO_PID + number) for number in range(2)]
    for writer in writers:
        for i in range(6):
            at = 10 * i
            writer.write(
                *(row(at + k, at + 6, start=at + k, end=at + k + 1) for k in range(1, 6)),
                row(at + 6, start=at, end=at + 9),
                still_open=[row(1_000 + i, end=None)],
            )
            if i == 3:
                writer.rotate()
        writer.die()
    if step == 1:
        for statement in range(0, 12):  # the very first fold of a file
            fold_until(database, statement)
    killed = 0
    statement = step
    while fold_until(database, statement):
        killed += 1
        statement += step  # each goes on from where the one before was killed
        assert killed < 60
    assert killed > 2
    with Database(database) as opened:
        for writer in writers:
            ended = [s for s in opened.spans() if s.pid == writer.process.pid and not s.interrupted]
            assert sorted(ended, key=lambda s: s.span_id) == sorted(
                writer.written, key=lambda s: s.span_id
            )
        assert [s.span_id for s in opened.spans(status="interrupted")] == [1_005, 1_005]
        assert all(audit.agrees and audit.rescued == 0 for audit in opened.audit())
        assert not list(opened.query("SELECT * FROM ledger WHERE counter = 'rescued'")[1])
        self_times = "SELECT DISTINCT self_ns FROM spans WHERE parent_span_id IS NULL"
        assert set(opened.query(self_times)[1]) == {(4,), (None,)}
    assert not writers[0].folder.exists()
