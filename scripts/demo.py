"""`make demo`: trace a program that is not ours, and print where its time went. Needs no root.

It makes an environment in `.venv/demo`, installs Afterglow and bandit (a linter that looks for
security problems, pure Python) from the package index, has bandit check Afterglow's own source
under `afterglow run`, and prints the report.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import environments  # beside this file

PROGRAM = "bandit>=1.8,<2"
CHECKED = "src/afterglow/record src/afterglow/store src/afterglow/write src/afterglow/ui"


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(beside: Path, command: str, *, quiet: bool = False) -> float:
    """Print a command line, run it, and say how long it took (s)."""
    words = shlex.split(command)
    print(f"\n$ {command}", flush=True)
    begun = time.perf_counter()
    done = subprocess.run(
        [str(beside / words[0]), *words[1:]],
        cwd=environments.ROOT,
        stdin=subprocess.DEVNULL,
        check=False,
        stdout=subprocess.DEVNULL if quiet else None,
    )
    took = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"-- that failed with exit code {done.returncode}")
    print(f"-- {took:.1f} s", flush=True)
    return took


def newest() -> Path:
    """The newest Python that is here."""
    for version in reversed(environments.WANTED):
        python = environments.interpreter(version)
        if python is not None:
            return python
    environments.stop(f"Afterglow needs Python {environments.WANTED[0]} or newer")
    raise AssertionError


def main() -> None:
    begun = time.perf_counter()
    say(f"Setting up .venv/demo: Afterglow, and {PROGRAM} from the package index")
    requirements = ["--editable", str(environments.ROOT), PROGRAM]
    inside = environments.install(environments.ROOT / ".venv" / "demo", newest(), requirements)
    print(f"-- {time.perf_counter() - begun:.1f} s (the second time it is there already)")

    home = environments.CACHE / "demo"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    database = (home / "bandit.db").relative_to(environments.ROOT)
    beside = inside.parent

    check = f"bandit --quiet --exit-zero --recursive {CHECKED}"
    say("bandit by itself checks part of our source, for comparison (its output is left out)")
    alone = run(beside, check, quiet=True)

    say(
        "The same under afterglow run: every function of bandit and of stevedore, its plugin loader"
    )
    traced = run(
        beside,
        f"afterglow run --db {database} --include 'bandit*' --include 'stevedore*' -m {check}",
        quiet=True,
    )
    print(f"-- {traced / alone:.1f} times as long as without; folding the journal is in it")

    say("Where the time went, by function")
    run(beside, f"afterglow report {database} --limit 15")
    say("The slowest trace as a tree")
    run(beside, f"afterglow report {database} --tree --limit 1 --depth 8 --lines 30")
    say("What stays of it, and why, as time goes by")
    run(beside, f"afterglow keep {database}")
    say("Where every span went")
    run(beside, f"afterglow audit {database}")
    say(
        f"That was all of it: {time.perf_counter() - begun:.0f} s. The database is {database}; "
        "look further with .venv/demo/bin/afterglow report --help"
    )


if __name__ == "__main__":
    main()
