"""Which modules are the user's own, and so are traced.

In this order: never ours; what `exclude` names is not; the script or module that is run is, and
what `include` names; then what is under one of the roots (the script's directory and the current
one), but for the standard library, site-packages and virtual environments.
"""

# Paths as Python's own start treats them; pathlib would change some.
# ruff: noqa: PTH120

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

__all__ = ["Chooser"]

_INSTALLED: Final = frozenset(("site-packages", "dist-packages"))
_OF_A_VENV: Final = ("bin", "Scripts", "lib", "lib64", "Lib", "include")


class Chooser:
    """Decides by module name and path."""

    def __init__(
        self, roots: Sequence[str], include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        here = Path(__file__).resolve()
        self._never = (str(here.parent.parent),)
        self._library = os.path.realpath(os.path.dirname(os.__file__))
        self._is_own_folder = lru_cache(maxsize=None)(self._looked_at)

    def traced(self, module: str, path: str, *, named: bool = False) -> bool:
        """Whether the functions of this module become spans.

        `named`: it is what the person named to be run, wherever it lies.
        """
        path = os.path.realpath(path)
        if any(_under(path, never) for never in self._never):
            return False
        if self._exclude and self._named(self._exclude, module, path):
            return False
        if named or (self._include and self._named(self._include, module, path)):
            return True
        return self._is_own_folder(os.path.dirname(path))

    def _named(self, globs: Sequence[str], module: str, path: str) -> bool:
        from fnmatch import fnmatchcase  # only who has globs pays for it

        places = [path]
        places += [os.path.relpath(path, root) for root in self._roots if _under(path, root)]
        for glob in globs:
            if fnmatchcase(module, glob) or module.startswith(glob + "."):
                return True
            folder = glob.rstrip("/")
            if any(fnmatchcase(p, glob) or p.startswith(folder + "/") for p in places):
                return True
        return False

    def _looked_at(self, folder: str) -> bool:
        """Whether files in this folder are the user's own, unless something names them."""
        return any(_under(folder, root) and self._own(folder, root) for root in self._roots)

    def _own(self, folder: str, root: str) -> bool:
        parts = Path(folder).parts
        if _INSTALLED.intersection(parts):
            return False
        if _under(folder, self._library) and not _under(root, self._library):
            return False
        for depth in range(1, len(parts) + 1):
            above = str(Path(*parts[:depth]))
            if Path(above, "pyvenv.cfg").exists():
                # A project may lie in its environment's own folder; a script in bin/ may not.
                inside = parts[depth : depth + 1]
                if (_under(above, root) and above != root) or (inside and inside[0] in _OF_A_VENV):
                    return False
        return True


def _under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
