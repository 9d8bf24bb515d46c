"""From source, or a tree, to code with live sites in it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType
from typing import Any

from afterglow.instrument.nodes import MARKS
from afterglow.instrument.rewrite import instrumented

__all__ = ["MakeSite", "code_of_source", "code_of_tree"]

#: (kind, qualified name in the module, file, line) -> what takes the placeholder's place
MakeSite = Callable[[str, str, str, int], Any]

_KINDS = {mark: kind for kind, mark in MARKS.items()}


def code_of_source(
    source: bytes | str, path: str, make: MakeSite, *, functions: bool = True, main: bool = False
) -> CodeType:
    """Instrumented code of a module; raises what `compile` raises, and RecursionError."""
    tree = compile(source, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return code_of_tree(tree, path, make, functions=functions, main=main)


def code_of_tree(
    tree: ast.Module, path: str, make: MakeSite, *, functions: bool = True, main: bool = False
) -> CodeType:
    """The same of a tree, which is changed."""
    tree = instrumented(tree, functions=functions, main=main)
    code: CodeType = compile(tree, path, "exec", dont_inherit=True)
    return _with_sites(code, make)


def _with_sites(code: CodeType, make: MakeSite) -> CodeType:
    """The code with each placeholder replaced, in it and in all that it holds."""
    constants: list[Any] = []
    changed = False
    for constant in code.co_consts:
        replaced = constant
        if isinstance(constant, CodeType):
            replaced = _with_sites(constant, make)
        elif type(constant) is bytes and constant in _KINDS:
            replaced = make(
                _KINDS[constant], code.co_qualname, code.co_filename, code.co_firstlineno
            )
        changed = changed or replaced is not constant
        constants.append(replaced)
    return code.replace(co_consts=tuple(constants)) if changed else code
