"""Segments in a file: each message once, whatever dies, whoever else writes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.sink.segment_file import SegmentFile, read_segments
from afterglow.testing import ManualClock
from tests.flush.makers import part_of


def ids(path: Path) -> list[int]:
    return [int(line.message_id, 16) for line in read_segments(path)]


def test_a_line_a_part(tmp_path: Path) -> None:
    sink = SegmentFile(tmp_path / "s.jsonl")
    sink.write([part_of(1), part_of(2)])
    sink.close()
    sink.close()
    one, two = read_segments(tmp_path / "s.jsonl")
    assert (one.project, one.part, one.is_last, one.addendum) == ("p", 0, True, False)
    assert one.trace_id == f"{1:032x}" and one.root_span_id == f"{1:016x}"
    assert [(span.span_id, span.payload) for span in two.spans] == [(f"{2:016x}", b"xxx")]


def test_each_message_once_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        sink = SegmentFile(tmp_path / "s.jsonl")
        sink.write([part_of(1), part_of(1), part_of(2)])
        sink.write([part_of(2)])
        assert f"{2:032x}" in sink and f"{3:032x}" not in sink
        sink.close()
    assert ids(tmp_path / "s.jsonl") == [1, 2]


def test_two_writers_of_one_file_know_of_each_other(tmp_path: Path) -> None:
    first, second = (SegmentFile(tmp_path / "s.jsonl") for _ in range(2))
    first.write([part_of(1), part_of(2)])
    second.write([part_of(2), part_of(3)])
    first.write([part_of(3), part_of(4)])
    first.close()
    second.close()
    assert ids(tmp_path / "s.jsonl") == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 15, 40, 150])
def test_a_line_that_a_process_died_in_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.jsonl"
    sink = SegmentFile(path)
    sink.write([part_of(1), part_of(2)])
    sink.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + cut])
    assert ids(path) == [1]
    sink = SegmentFile(path)
    sink.write([part_of(1), part_of(2)])
    sink.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["notes\n", "notes", '{"message_id": "zz"}\n', '{"a": 1}'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(SinkError, match="name another file"):
        SegmentFile(path)
    assert path.read_text() == text


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file or directory"):
        SegmentFile(tmp_path / "nowhere" / "s.jsonl")


def test_a_lock_that_is_held_for_too_long(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    sink = SegmentFile(path, ManualClock())
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SinkUnavailableError, match="held the lock"):
            sink.write([part_of(1)])
    sink.write([part_of(1)])
    sink.close()
    assert ids(path) == [1]


def test_a_full_disk_is_for_later_and_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk looks like: a write that stops half way."""
    program = """
import resource, signal, sys
from afterglow.errors import SinkUnavailableError
from afterglow.sink.segment_file import SegmentFile
from tests.flush.makers import part_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
sink = SegmentFile(sys.argv[1])
sink.write([part_of(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
try:
    sink.write([part_of(2), part_of(3, size=20_000)])
except SinkUnavailableError as error:
    print(error)
print(open(sys.argv[1]).read().count(chr(10)))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
sink.write([part_of(2), part_of(3, size=20_000)])
sink.close()
"""
    path = tmp_path / "s.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert "File too large" in done.stdout and done.stdout.endswith("\n1\n")
    assert ids(path) == [1, 2, 3]
