"""Run the suite on every Python that is here; the last lines are pytest's own closing lines.

    python3 scripts/run_tests.py [--pythons "3.11 3.13"] [--soak] [-- pytest arguments]

Each Python runs `python -m pytest` in its own environment (scripts/environments.py makes it). The
Redis and PostgreSQL that tests start are found here, or had from Debian (scripts/debian.py).
`--soak` runs the tests marked `soak` instead, which take minutes. The exit code is 1 when any
of them failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import debian  # beside this file
import environments


def closing_line(python: Path, arguments: list[str]) -> tuple[int, str]:
    """Run pytest, show all it prints, and keep its last line."""
    last = ""
    process = subprocess.Popen(
        [python, "-m", "pytest", *arguments],
        cwd=environments.ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    return process.wait(), last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pythons", default="", help="versions; all that are here by default")
    parser.add_argument("--soak", action="store_true", help="the long tests instead")
    parser.add_argument("rest", nargs="*", help="for pytest, after --")
    arguments = parser.parse_args()
    made = environments.environments(arguments.pythons.split(), ["dev"])
    debian.ensure()
    chosen = ["-m", "soak"] if arguments.soak else []
    results: list[tuple[str, int, str, float]] = []
    for version, python in made.items():
        environments.say(f"Python {version}: {' '.join(['pytest', *chosen, *arguments.rest])}")
        begun = time.perf_counter()
        code, last = closing_line(python, [*chosen, *arguments.rest])
        results.append((version, code, last, time.perf_counter() - begun))
    print()
    for version, code, last, seconds in results:
        verdict = "passed" if code == 0 else f"FAILED (exit code {code})"
        print(f"-- Python {version}: {verdict} after {seconds:.1f} s; pytest's own last line:")
        print(last, flush=True)
    sys.exit(1 if any(code for _, code, _, _ in results) else 0)


if __name__ == "__main__":
    main()
