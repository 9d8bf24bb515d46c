"""Test modules: pytest compiles them itself, with its assertions rewritten.

Its rewritten tree is instrumented after that. What it would write into __pycache__ (its own
kind of file, but read again by an untraced run) is not written, and not read.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

__all__ = ["patch_assertion_rewriting"]


def patch_assertion_rewriting(
    module: ModuleType,
    traced: Callable[[str], bool],
    code_for: Callable[[ast.Module, str], CodeType | None],
) -> None:
    """Have `_pytest.assertion.rewrite` compile the files that are traced through `code_for`."""
    names: Any = vars(module)
    read, write = names.get("_read_pyc"), names.get("_write_pyc")
    if read is None or write is None:
        return  # another pytest than we know: its tests are not traced, what they call is

    def is_traced(path: object) -> bool:
        return traced(str(path))

    def _read_pyc(source: Path, *rest: Any, **named: Any) -> Any:
        return None if is_traced(source) else read(source, *rest, **named)

    def _write_pyc(state: Any, code: Any, source_stat: Any, pyc: Any) -> Any:
        if is_traced(getattr(code, "co_filename", "")):
            return False
        return write(state, code, source_stat, pyc)

    def compile_(source: Any, filename: Any, mode: str, *rest: Any, **named: Any) -> Any:
        if mode == "exec" and isinstance(source, ast.Module) and is_traced(filename):
            code = code_for(source, str(filename))
            if code is not None:
                return code
        return compile(source, filename, mode, *rest, **named)

    # A name in that module, where it hides the builtin of the same name.
    names.update(_read_pyc=_read_pyc, _write_pyc=_write_pyc, compile=compile_)
