"""The journal that this process writes: what is in it, and how it lives through forks and kills."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from afterglow.errors import UnencodableError
from afterglow.ledger import balanced
from afterglow.store import journal as module
from afterglow.store.columns import OPEN_AS_BEFORE
from afterglow.store.journal_files import alive
from tests.store.conftest import row
from tests.store.recorder import Make, heads_and_ids, ids_in


def test_nothing_is_on_the_disk_before_the_first_batch(recorder: Make, tmp_path: Path) -> None:
    one = recorder()
    one.sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_can_be_read_while_the_journal_is_open_and_the_database_is_not(
    recorder: Make,
) -> None:
    one = recorder()
    one.write(1, 2)
    one.write(3)
    (path,) = one.journals()
    assert path.name == f"run-{os.getpid()}-1.journal"
    assert ids_in(path) == [1, 2, 3]
    assert not one.database.exists()
    assert alive(one.folder, f"run-{os.getpid()}")
    one.sink.close()
    one.sink.close()
    assert not alive(one.folder, f"run-{os.getpid()}")
    assert sorted(p.suffix for p in one.folder.iterdir()) == [".journal", ".lock"]


def test_each_batch_is_one_statement(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    statements: list[str] = []
    connection = one.sink._connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    one.write(*range(2, 5_002))
    assert len(statements) == 1
    assert statements[0].startswith("INSERT")


def test_a_large_batch_is_written_in_pieces_with_books_that_balance(recorder: Make) -> None:
    one = recorder()
    one.write(*range(1, 5_001), last=True)
    (path,) = one.journals()
    heads, ids = heads_and_ids(path)
    assert ids == list(range(1, 5_001))
    assert len(heads) > 1
    so_far = 0
    for head in heads:
        so_far += head.spans
        assert head.ledger["written"] == so_far
        assert balanced(head.ledger)
    assert [head.last for head in heads] == [False] * (len(heads) - 1) + [True]


def test_a_new_journal_is_begun_after_so_many_bytes(recorder: Make) -> None:
    one = recorder(journal_file_bytes=64 * 1024)
    for span_id in range(1, 31):
        one.write(span_id, bulk=8_000)
    assert [int(path.stem.rsplit("-", 1)[1]) for path in one.journals()] == [1, 2, 3, 4]
    # The closed ones are whole in one file.
    assert [p.suffix for p in one.folder.iterdir() if "-1." in p.name] == [".journal"]
    assert ids_in(*one.journals()) == list(range(1, 31))


def test_what_is_said_of_open_spans_is_one_of_three_things(recorder: Make) -> None:
    one = recorder()
    one.write(1, open=None)  # as before
    one.write(2, open=[])  # none
    one.write(3, open=row(9, end=None))
    heads, _ = heads_and_ids(one.journals()[0])
    assert [head.open_spans for head in heads] == [OPEN_AS_BEFORE, 0, 1]


def test_the_log_of_a_deleted_namesake_is_not_taken_for_ones_own(recorder: Make) -> None:
    first = recorder()
    first.write(1)
    (path,) = first.journals()
    log = path.with_name(path.name + "-wal").read_bytes()
    assert log
    first.sink.close()
    path.with_name(path.name.replace("-1.", "-2.") + "-wal").write_bytes(log)
    second = recorder()
    second.write(2)
    assert ids_in(second.journals()[-1]) == [2]


def test_a_value_that_cannot_be_encoded_is_said_to_be_so(recorder: Make) -> None:
    one = recorder()
    batch = one.batch(1)
    batch.flat[3] = "\ud800"
    with pytest.raises(UnencodableError):
        one.sink.write(batch)
    one.write(2)
    assert ids_in(*one.journals()) == [2]


@pytest.mark.parametrize("run_id", ["../up", "a/b", "ü" * 128, "..", "with space", "x" * 128])
def test_whatever_a_run_is_called_its_journals_are_in_the_folder(
    recorder: Make, tmp_path: Path, run_id: str
) -> None:
    one = recorder(run_id=run_id)
    one.write(1)
    assert ids_in(*one.journals()) == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db.d"]


def test_two_writers_of_one_run_and_process_keep_apart(recorder: Make) -> None:
    first, second = recorder(), recorder()
    first.write(1)
    second.write(2)
    first.write(3)
    pid = os.getpid()
    assert [path.name for path in first.journals()] == [
        f"run-{pid}-1.journal",
        f"run.2-{pid}-1.journal",
    ]
    assert [ids_in(path) for path in first.journals()] == [[1, 3], [2]]


def test_a_second_writer_after_the_first_goes_on_counting(recorder: Make) -> None:
    first = recorder()
    first.write(1)
    first.sink.close()
    second = recorder()
    second.write(2)
    assert [path.name[-9:] for path in second.journals()] == ["1.journal", "2.journal"]
    assert ids_in(*second.journals()) == [1, 2]


def test_fifty_journals_leave_no_descriptor(recorder: Make, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        one = recorder(tmp_path / f"{number}.db")
        one.write(1)
        one.sink.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- fork ---------------------------------------------------------------------------------------


def test_a_forked_child_writes_a_journal_of_its_own(recorder: Make) -> None:
    one = recorder()
    one.write(1)
    parent = f"run-{os.getpid()}"
    ours = one.sink._connection
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            one.sink.after_fork()
            # Referred to for ever: closing it here would meddle with the parent's.
            assert any(connection is ours for connection in module._INHERITED)
            one.write(2)
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            one.sink.close()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(ready[1])
    assert os.read(ready[0], 1) == b"r"
    one.write(3)
    by_pid = {path.name.split("-")[1]: ids_in(path) for path in one.journals()}
    assert by_pid == {str(os.getpid()): [1, 3], str(pid): [2]}
    # The parent's lock goes with the parent, though a child that inherited it lives on.
    assert alive(one.folder, parent)
    one.sink.close()
    assert not alive(one.folder, parent)
    assert alive(one.folder, f"run-{pid}")
    os.write(go[1], b"g")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not alive(one.folder, f"run-{pid}")
    for end in (ready[0], *go):
        os.close(end)


# --- kill -9 ------------------------------------------------------------------------------------

VICTIM = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from tests.store.recorder import Recorder
    one = Recorder(Path(sys.argv[1]), journal_file_bytes=256 * 1024)
    number = 0
    while True:
        one.write(*range(number + 1, number + 51), bulk=100)
        number += 50
        os.write(1, b"%d\\n" % number)
    """
)


@pytest.mark.parametrize("lines", [1, 7, 60, 120])
def test_after_kill_9_every_batch_that_was_written_is_there(tmp_path: Path, lines: int) -> None:
    root = str(Path(__file__).parents[2])
    database = tmp_path / "a.db"
    command = [sys.executable, "-c", VICTIM, str(database), root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as victim:
        assert victim.stdout is not None
        for _ in range(lines):
            victim.stdout.readline()
        victim.kill()
        said = [int(line) for line in victim.stdout.read().split() if line]
    folder = tmp_path / "a.db.d"
    paths = sorted(folder.glob("*.journal"), key=lambda path: (len(path.name), path.name))
    ids = ids_in(*paths)
    # All that `write` returned for; perhaps one batch more; each once.
    assert ids == list(range(1, len(ids) + 1))
    least = max([*said, lines * 50])
    assert least <= len(ids) <= least + 50
    assert not alive(folder, f"run-{victim.pid}")


def test_a_sink_may_be_used_by_one_thread_after_another(recorder: Make) -> None:
    one = recorder()
    thread = threading.Thread(target=one.write, args=(1,))
    thread.start()
    thread.join()
    one.write(2)
    one.sink.close()
    assert ids_in(*one.journals()) == [1, 2]
