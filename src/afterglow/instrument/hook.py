"""Where modules get their code: between Python's import and our compiler.

`SourceFileLoader.get_code` is what both `import` and `python -m` ask. A module that is ours to
trace is compiled anew at each start: its instrumented code never goes into __pycache__, and what
lies there is not used. Everything else goes the plain way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["after_import", "hook_loader"]

#: Python leaves the frames of these files out of an import's traceback.
_IMPORT_FILE = "<frozen importlib._bootstrap_external>"


def hook_loader(code_for: Callable[[str, str, SourceFileLoader], CodeType | None]) -> None:
    """Ask `code_for(module, path, loader)` first; None means that Python shall do it."""
    plain = SourceFileLoader.get_code
    plain_compile = SourceFileLoader.source_to_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        code = None
        # A loader that compiles in a way of its own shall go on doing that.
        if type(self).source_to_code is plain_compile:
            code = code_for(fullname, self.path, self)
        return plain(self, fullname) if code is None else code

    SourceFileLoader.get_code = as_importlib(get_code)  # type: ignore[method-assign]


def as_importlib(function: Any) -> Any:
    """The function as if it stood in importlib's own file."""
    code = function.__code__.replace(co_filename=_IMPORT_FILE)
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def after_import(name: str, patch: Callable[[ModuleType], None]) -> None:
    """Call `patch` with a module: now if it is there, else when it has been imported."""
    module = sys.modules.get(name)
    if module is None:
        sys.meta_path.insert(0, _Watcher(name, patch))
    else:
        patch(module)


class _Watcher(MetaPathFinder):
    """Finds nothing itself: wraps the loader of the module that it waits for, and goes."""

    def __init__(self, name: str, patch: Callable[[ModuleType], None]) -> None:
        self._name, self._patch = name, patch

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            if hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _PatchingLoader(spec, spec.loader, self._patch)
                    return spec
        return None


class _PatchingLoader(Loader):
    """Loads by the module's own loader, puts that back, and patches the module."""

    def __init__(self, spec: ModuleSpec, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._spec, self._loader, self._patch = spec, loader, patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
