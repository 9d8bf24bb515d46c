"""`afterglow run`: this process becomes the Python that runs the program.

By `exec`, so that the program is what Python itself makes of its command line: its process id,
arguments, `sys.path`, `__main__`, messages for what is not there, exit codes and signals are not
imitated. What traces it comes in through the environment (carried.py, boot/sitecustomize.py).
"""

# Paths as Python's own start treats them; pathlib would change some.
# ruff: noqa: PTH109, PTH110, PTH112, PTH120

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from afterglow.instrument.carried import HIDDEN, Carried, child_environment

__all__ = ["become", "roots_of"]


def roots_of(target: str, is_module: bool) -> tuple[str, ...]:
    """Where the user's own code is: the current directory, and the script's."""
    roots = [os.path.realpath(os.getcwd())]
    if not is_module and target != "-":
        script = os.path.realpath(target)
        roots.append(script if os.path.isdir(script) else os.path.dirname(script))
    return tuple(dict.fromkeys(roots))


def become(carried: Carried, target: str, is_module: bool, arguments: Sequence[str]) -> NoReturn:
    """Run the program in the place of this process; OSError if not even Python can be run."""
    environment = dict(os.environ)
    options = _interpreter_options()
    if sys.flags.ignore_environment:
        # We need the environment to be heard; so nothing else may be in it.
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTHON")}
    trace = {name: environment[name] for name in HIDDEN if name in environment}
    if is_module or target == "-" or os.path.exists(target):  # else there is no run to record
        environment |= child_environment(carried._replace(first=True), trace, environment)
    # A script whose name begins with a dash would be an option.
    file = f"./{target}" if target.startswith("-") and target != "-" else target
    program = ["-m", target] if is_module else [file]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execve(sys.executable, [sys.executable, *options, *program, *arguments], environment)


def _interpreter_options() -> list[str]:
    """What stood before `-m afterglow` (or the command's own file) when we were started."""
    words = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    if len(words) > 1 and words[-2].startswith("-") and words[-2].endswith("m"):
        words = words[:-2]
    else:
        words = words[:-1]
    if not sys.flags.ignore_environment:
        return words
    words = [word for word in words if word not in ("-I", "-E")]
    return [*words, "-s", "-P"] if sys.flags.isolated else words
