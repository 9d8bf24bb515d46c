"""What runs when a program under `afterglow run` has ended: fold, and say where to look.

In a process of its own, so that the program is not touched:

    python -m afterglow.ui.closing DATABASE RUN_ID [quiet]

The program's output must stay its own: nothing is printed where stderr is no terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from afterglow.model.run import Run
from afterglow.ui import failure
from afterglow.ui.progress import Progress
from afterglow.ui.units import plural, size

__all__ = ["closing_lines", "main"]


def main(arguments: Sequence[str]) -> int:
    """The exit status, for whoever looks."""
    database, run_id, *flags = arguments
    path = Path(database)
    loud = "quiet" not in flags and sys.stderr is not None and sys.stderr.isatty()
    try:
        from afterglow.wiring import open_database

        with Progress("folding", size) as progress:
            opened = open_database(path, progress=progress)
        with opened:
            run = next((run for run in opened.runs() if run.run_id == run_id), None)
            lines = [*opened.folded.problems, *closing_lines(path, run)]
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  one line, as every command
        return failure.ended_by(error) if loud else failure.BAD_INPUT
    for line in lines if loud else ():
        failure.say(line)
    return 0


def closing_lines(path: Path, run: Run | None) -> list[str]:
    """How many spans went where, and how to look."""
    shown = _shortest(path)
    if run is None or not (run.spans or run.interrupted_spans or run.dropped):
        return [f"no span was recorded in {shown}; --include GLOB traces more than your own code"]
    spans = plural(run.spans, "span")
    if run.processes > 1:
        spans += f" of {plural(run.processes, 'process', 'processes')}"
    lost = f", {plural(run.dropped, 'span')} dropped (afterglow audit)" if run.dropped else ""
    # The database that the command takes by itself need not be named.
    usual = os.environ.get("AFTERGLOW_DATABASE", "").strip() or "afterglow.db"
    named = "" if Path(usual).absolute() == path.absolute() else f" {quote(shown)}"
    return [f"{spans} in {shown}{lost}", f"see where the time went: afterglow report{named}"]


def _shortest(path: Path) -> str:
    """From here if it is below, else whole."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
