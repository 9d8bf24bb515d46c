"""The door of the command line: `afterglow run` goes straight through, the rest by click.

Importing this module loads next to nothing, so that a watched program starts as it would
under plain `python`: no click, no rich, no change of signals, locale or warnings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from afterglow.ui import runline

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says; the exit status (docs/exit-codes.md)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        try:
            line = runline.parse(words[1:])
        except (runline.RunLineError, runline.HelpWanted):
            pass  # click says it, in the same words
        else:
            from afterglow.ui.launch import launch

            return launch(line)
    from afterglow.ui.commands import run_commands

    return run_commands(words)
