"""Exit codes, pipes and signals: real processes, as docs/exit-codes.md says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ui.conftest import record

Child = Callable[..., "subprocess.CompletedProcess[str]"]


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure; nothing was printed besides."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("afterglow: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("name", ["report", "runs", "audit"])
def test_a_database_that_is_not_there(child: Child, name: str) -> None:
    assert "nowhere.db" in only_line(child(name, "nowhere.db"))


@pytest.mark.parametrize("name", ["report", "runs", "audit"])
def test_a_file_that_is_no_database(child: Child, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("just text, " * 100)
    assert "notes.txt" in only_line(child(name, "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "just text, " * 100


def test_a_folder_is_no_database(child: Child, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "folder" in only_line(child("report", "folder"))


def test_a_bad_setting(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_OVERFLOW", "explode")
    assert "AFTERGLOW_OVERFLOW" in only_line(child("settings"))


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["report", "--nosuch"],
        ["report", "--sort", "color"],
        ["report", "--limit", "-1"],
        ["sql"],
        ["import", "nosuch.db"],
        ["run"],
        ["run", "--nosuch", "x.py"],
        ["run", "--db"],
    ],
)
def test_wrong_usage_is_2_without_a_traceback(child: Child, words: list[str]) -> None:
    result = child(*words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr and "Traceback" not in result.stderr


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    record(path, "first")
    text = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
        "SELECT i FROM n"
    )
    for form in ([], ["--csv"], ["--json"]):
        words = [sys.executable, "-m", "afterglow", "sql", str(path), text, *form]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 141


def test_a_reader_that_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the output waits in a buffer then, and would fail only when Python ends."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    record(tmp_path / "a.db", "first")
    for words in (["report"], ["report", "--json"], ["runs"]):
        end, start = os.pipe()
        os.close(end)
        result = subprocess.run(
            [sys.executable, "-m", "afterglow", *words, str(tmp_path / "a.db")],
            stdout=start, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
        os.close(start)
        assert (result.returncode, result.stderr) == (141, "")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    record(tmp_path / "a.db", "first")
    words = [sys.executable, "-m", "afterglow", "report", str(tmp_path / "a.db"), "--json"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert result.returncode == 2
    assert result.stderr == "afterglow: No space left on device\n"


def test_ctrl_c_exits_130(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    record(path, "first")
    text = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    words = [sys.executable, "-m", "afterglow", "sql", str(path), text, "--csv"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        while process.stdout.read(1 << 16):
            pass
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == 130


def test_closed_standard_streams_are_no_traceback(tmp_path: Path) -> None:
    record(tmp_path / "a.db", "first")
    command = f"{sys.executable} -m afterglow report {tmp_path / 'a.db'}"
    result = subprocess.run(
        ["sh", "-c", f"{command} >&-; {command} --json >&- 2>&-; echo $?"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout == "0\n"


def test_a_terminal_that_knows_ascii_only_gets_ascii(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import afterglow

    with afterglow.Tracer(tmp_path / "a.db") as tracer, tracer.span("größe 日本"):
        pass
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = child("report", "a.db", "--tree")
    assert result.returncode == 0
    assert result.stdout.isascii() and "gr\\xf6\\xdfe" in result.stdout
