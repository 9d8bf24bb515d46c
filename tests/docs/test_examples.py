"""Python in the pages runs; shell in the pages names commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from afterglow.ui.commands import afterglow as command_line

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXAMPLES = [
    pytest.param(code, id=f"{page.name}:{number}")
    for page in PAGES
    for number, code in enumerate(BLOCK.findall(page.read_text()))
]
# Excerpts of a program may use a tracer that they do not make.
PREAMBLE = "import afterglow\ntracer = afterglow.Tracer('excerpt.db')\n"


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    source = code if "import afterglow" in code else PREAMBLE + code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def lines_of_shell() -> list[str]:
    """Indented lines that call us, without the comment behind."""
    found = re.findall(
        r"^    (afterglow .+)$", "\n".join(p.read_text() for p in PAGES), re.MULTILINE
    )
    return sorted({line.partition("  #")[0].strip() for line in found})


@pytest.mark.parametrize("line", lines_of_shell())
def test_commands_in_the_pages_exist(line: str) -> None:
    words = shlex.split(line)
    assert words[1] in command_line.commands
