"""`afterglow run`, from the command line to what is said at the end."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from afterglow.model.run import Run
from afterglow.ui.closing import closing_lines

Child = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = """
import sys

def work(n):
    return n

def main():
    work(1)
    work(2)
    print(sys.argv[1:], "click" in sys.modules, "rich" in sys.modules)

main()
sys.exit(7)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def recorded(child: Child, *words: str) -> dict[str, int]:
    names = json.loads(child("report", *words, "--json").stdout)["names"]
    return {name["name"]: name["count"] for name in names}


def test_the_program_gets_its_words_and_gives_its_status(child: Child, program: Path) -> None:
    result = child("run", "program.py", "--db", "x", "-m", "--help", "--")
    assert result.stdout == "['--db', 'x', '-m', '--help', '--'] False False\n"
    assert result.stderr == ""
    assert result.returncode == 7
    assert recorded(child) == {"program.main": 1, "program.work": 2}


def test_a_module_is_run_as_python_does(child: Child, program: Path) -> None:
    result = child("run", "-m", "program", "-x")
    assert result.stdout == "['-x'] False False\n" and result.returncode == 7
    assert recorded(child) == {"program.main": 1, "program.work": 2}


def test_its_options_reach_the_recorder(child: Child, program: Path, tmp_path: Path) -> None:
    words = ["--db", "other.db", "--run-id", "mine", "--service", "shop", "--exclude", "helper"]
    (tmp_path / "helper.py").write_text("def assist(): pass\n")
    program.write_text("import helper\nhelper.assist()\n" + PROGRAM)
    assert child("run", *words, "--", "program.py").returncode == 7
    assert set(recorded(child, "other.db")) == {"program.main", "program.work"}
    document = json.loads(child("report", "other.db", "--json").stdout)
    assert document["run"]["run_id"] == "mine"
    assert document["run"]["resource"]["service.name"] == "shop"
    assert document["run"]["argv"] == ["program.py"] and document["run"]["exit_status"] == 7
    assert not (tmp_path / "afterglow.db").exists()
    child("run", "program.py")
    assert set(recorded(child)) == {"helper.assist", "program.main", "program.work"}


def test_counted_functions_are_listed_with_the_rule(child: Child, tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        "def tiny(): return 1\ndef main():\n    for _ in range(20_000): tiny()\nmain()\n"
    )
    assert child("run", "busy.py").returncode == 0
    output = child("report").stdout
    assert "only counted, in 1 function" in output and "--no-collapse" in output
    assert "busy.tiny" in output.partition("only counted")[2]
    (counted,) = json.loads(child("report", "--json").stdout)["counted"]
    assert counted["name"] == "busy.tiny" and counted["calls"] > 10_000
    assert child("run", "--no-collapse", "busy.py").returncode == 0
    assert recorded(child)["busy.tiny"] == 20_000


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nosuch.py"], 2, "nosuch.py"),
        (["-m", "nosuch"], 1, "nosuch"),
        (["--db", "no/such/folder/x.db", "program.py"], 2, "afterglow: "),
        (["--max-spans-per-second", "-1", "program.py"], 2, "max_spans_per_second"),
        (["--run-id", "a\nb", "program.py"], 2, "run_id"),
        (["--db", "program.py", "program.py"], 2, "no database"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    child: Child, program: Path, words: list[str], status: int, said: str
) -> None:
    result = child("run", *words)
    assert result.returncode == status
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_the_way_to_the_program_loads_neither_click_nor_rich() -> None:
    code = (
        "import sys\n"
        "from afterglow.ui import cli, launch\n"
        "from afterglow import wiring\n"
        "from afterglow.instrument import runner\n"
        "print({'click', 'rich', 'asyncio', 'multiprocessing'} & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def on_a_terminal(folder: Path, *words: str) -> str:
    """What a person sees: all streams of the command are one terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "afterglow", *words],
        cwd=folder, stdin=its, stdout=its, stderr=its,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"},
    ) as process:  # fmt: skip
        os.close(its)
        seen = b""
        while True:
            try:
                portion = os.read(ours, 4096)
            except OSError:  # Linux's word for the end of it
                break
            if not portion:
                break
            seen += portion
        process.wait(60)
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")


def test_a_person_is_told_where_to_look(program: Path, tmp_path: Path) -> None:
    seen = on_a_terminal(tmp_path, "run", "program.py")
    assert seen == (
        "[] False False\n"
        "afterglow: 3 spans in afterglow.db\n"
        "afterglow: see where the time went: afterglow report\n"
    )
    assert on_a_terminal(tmp_path, "run", "--quiet", "program.py") == "[] False False\n"


def test_a_terminal_gets_colours(program: Path, tmp_path: Path) -> None:
    on_a_terminal(tmp_path, "run", "-q", "program.py")
    assert "\x1b[1;38;5;" in on_a_terminal(tmp_path, "report")


def run_of(**more: int) -> Run:
    figures = {"processes": 1, "spans": 3, "errors": 0, "interrupted_spans": 0, "dropped": 0}
    return Run(
        run_id="r", argv=(), host="", start_ns=0, end_ns=1, exit_status=0, state="finished",
        **{**figures, **more},
    )  # fmt: skip


def test_the_closing_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "afterglow.db"
    assert closing_lines(path, run_of(processes=4, spans=12_031, dropped=1)) == [
        "12,031 spans of 4 processes in afterglow.db, 1 span dropped (afterglow audit)",
        "see where the time went: afterglow report",
    ]
    assert closing_lines(tmp_path / "my runs.db", run_of())[1].endswith("report 'my runs.db'")
    assert closing_lines(Path("/elsewhere/a.db"), run_of())[1].endswith("report /elsewhere/a.db")
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(tmp_path / "my runs.db"))
    assert closing_lines(tmp_path / "my runs.db", run_of())[1].endswith("afterglow report")
    for nothing in (None, run_of(spans=0)):
        (line,) = closing_lines(path, nothing)
        assert "no span was recorded" in line


def test_a_script_that_is_not_there_leaves_no_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afterglow", "run", "nothing.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert "can't open file" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
