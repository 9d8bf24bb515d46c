"""Running the program's script in place of Python's own main, without a frame of ours.

Python compiles a script in C, where nobody can come between. But it first asks `sys.path_hooks`
whether the script is something to import from (a zip file); who says yes makes it look up
`runpy._run_module_as_main` and call that. We say yes, put the module `__main__` and `sys.path`
into the state that the script would have found, and let that lookup find the script's own
(instrumented) code: what runs then is the script and nothing else. Its traceback, its depth (but
for 3.11, where calls in C count too), its exit and its interrupts are Python's own.

A script that cannot be read, or compiled, is left to Python: it says so in its own words.
"""

# Paths as Python's own start treats them; pathlib would change some.
# ruff: noqa: PTH100, PTH109, PTH113, PTH117, PTH120

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType
from typing import Any

__all__ = ["script_path", "take_over"]


def script_path() -> str | None:
    """The script that this interpreter was started with, as it was given; None if with none."""
    name = sys.argv[0] if sys.argv else ""
    if name in ("", "-", "-c", "-m") or not os.path.isfile(name):
        return None
    return name


def take_over(
    script: str, code_for: Callable[[str], CodeType | None], before: Callable[[], None]
) -> None:
    """Once Python asks for this script, call `before` and run what `code_for(path)` gives.

    Nothing is done where that gives no code.
    """
    expected = script if os.path.isabs(script) else f"{os.getcwd()}/{script}"
    expected_code = code_for(expected)
    if expected_code is None:
        return  # and no hook either: Python does not bear that one goes away by itself
    wanted = os.path.abspath(script)

    def path_hook(path: str) -> Any:
        if os.path.abspath(path) != wanted:
            raise ImportError
        code = expected_code if path == expected else code_for(path)
        if code is None:
            raise ImportError
        sys.path_hooks.remove(path_hook)
        before()
        _offer(path, script, code)
        return _Claim()

    sys.path_hooks.insert(0, path_hook)


class _Claim:
    """Stands in sys.path_importer_cache between our yes and the lookup."""

    def find_spec(self, name: str, target: Any = None) -> None:
        return None


def _offer(path: str, script: str, code: CodeType) -> None:
    was_there = "runpy" in sys.modules
    import runpy

    names = vars(runpy)
    plain = names.pop("_run_module_as_main")

    def __getattr__(name: str) -> Any:
        if name != "_run_module_as_main":
            raise AttributeError(f"module 'runpy' has no attribute {name!r}")
        del names["__getattr__"]
        names["_run_module_as_main"] = plain
        if not was_there:
            sys.modules.pop("runpy", None)
        _as_found_by_a_script(path, script)
        return _runner(code)

    names["__getattr__"] = __getattr__


def _as_found_by_a_script(path: str, script: str) -> None:
    """Undo what Python did for something to import from, do what it does for a script."""
    sys.path_importer_cache.pop(path, None)
    if sys.path and sys.path[0] == path:
        if sys.flags.safe_path:
            del sys.path[0]
        else:
            sys.path[0] = os.path.dirname(os.path.realpath(script))
    main: Any = sys.modules["__main__"]
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__file__ = path
    main.__cached__ = None


def _runner(code: CodeType) -> Callable[..., Any]:
    """Something that Python can call with two arguments and that runs the code without any.

    A function of ours would be a frame below the program's, and arguments would be variables of
    its module. This is C alone: `format` ignores what stands in no braces, asks the mapping for
    a key that it has not, and a defaultdict then calls its factory, which is the module's code.
    """
    run = FunctionType(code, vars(sys.modules["__main__"]))
    return partial("{main[run]}".format, main=defaultdict(run))
