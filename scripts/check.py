"""`make check`: format, lint, types, import rules, docs. Exit code 1 if any of them fails.

Each step is a command that can be run by hand; it is printed first. All of them run, so that
one look shows everything that is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import debian  # beside this file
import environments

MOST_LINES = 400
# Generated, and looked things up in rather than read.
GENERATED = {"docs/settings.md"}
SOURCES = ("src", "tests", "benchmarks", "scripts", "docs")


def too_long() -> list[str]:
    """Files that nobody can read in one sitting."""
    return [
        f"{path.relative_to(environments.ROOT)}: {lines} lines, at most {MOST_LINES}"
        for room in SOURCES
        for path in sorted((environments.ROOT / room).rglob("*"))
        if path.suffix in {".py", ".md", ".sql", ".lua", ".js"}
        and str(path.relative_to(environments.ROOT)) not in GENERATED
        and (lines := path.read_bytes().count(b"\n")) > MOST_LINES
    ]


def main() -> None:
    (python,) = environments.environments([], ["dev"], newest=True).values()
    debian.ensure()
    beside = python.parent
    steps: list[list[str | Path]] = [
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "mypy", "--strict"],
        [beside / "lint-imports", "--no-cache"],
        [python, "scripts/settings_doc.py", "--check"],
        [python, "-m", "pytest", "tests/docs", "tests/house"],
    ]
    failed: list[str] = []
    for step in steps:
        shown = " ".join(str(word).replace(f"{beside}/", "") for word in step)
        environments.say(shown)
        begun = time.perf_counter()
        code = subprocess.run(
            step, cwd=environments.ROOT, stdin=subprocess.DEVNULL, check=False
        ).returncode
        print(f"   {'ok' if code == 0 else 'FAILED'} ({time.perf_counter() - begun:.1f} s)")
        if code:
            failed.append(shown)
    environments.say(f"no file of more than {MOST_LINES} lines")
    if long := too_long():
        print(*long, sep="\n")
        failed.append("length of files")
    if failed:
        sys.exit("-- check failed: " + "; ".join(failed))
    environments.say("all checks passed")


if __name__ == "__main__":
    main()
