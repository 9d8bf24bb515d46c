"""docs/tutorial-memory.md, from top to bottom in one folder: commands, what they print, Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial-memory.md").read_text()
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps() -> Iterator[tuple[str, str, str]]:
    """Language, what is run, and what it is to print."""
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            yield language, text, ""
            continue
        for command in text.split("$ ")[1:]:
            line, _, output = command.partition("\n")
            yield language, line, output


def fits(printed: str, expected: str) -> bool:
    """Line by line; `...` stands for anything within a line."""
    pattern = ".+".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    return re.fullmatch(pattern, printed.rstrip("\n")) is not None


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "error",
    }
    ran = 0
    for language, text, expected in steps():
        if text.startswith("export "):
            name, _, value = text.removeprefix("export ").partition("=")
            environment[name] = value
            continue
        words = [sys.executable, "-c", text] if language == "python" else ["sh", "-c", text]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert fits(done.stdout, expected), f"{text}\nprinted\n{done.stdout}\nnot\n{expected}"
        ran += 1
    assert ran > 15


def test_what_does_not_fit_is_seen() -> None:
    assert fits("made  today\n", "made  ...\n")
    assert not fits("made  today\nand more\n", "made  ...\n")
    assert not fits("", "1 forgotten\n")
