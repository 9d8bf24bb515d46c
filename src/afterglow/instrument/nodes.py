"""Making syntax nodes that are not the program's."""

from __future__ import annotations

import ast
import os
from typing import Final, TypeVar

__all__ = ["MARKS", "Builder"]

_TOKEN: Final = os.urandom(8).hex()
#: kind of function -> the constant that holds the place of its site
MARKS: Final = {
    kind: f"\0afterglow {kind} {_TOKEN}".encode()
    for kind in ("function", "generator", "whole", "lambda", "main")
}

Node = TypeVar("Node", bound=ast.AST)


class Builder:
    """Makes nodes on the line of a node of the program's.

    They have no columns, so a traceback draws no marks for them.
    """

    def __init__(self, at: ast.AST) -> None:
        self._line: int = at.lineno  # type: ignore[attr-defined]

    def place(self, node: Node) -> Node:
        node.lineno = node.end_lineno = self._line  # type: ignore[attr-defined]
        node.col_offset = node.end_col_offset = -1  # type: ignore[attr-defined]
        return node

    def constant(self, value: object) -> ast.expr:
        return self.place(ast.Constant(value))  # type: ignore[arg-type]

    def site(self, kind: str) -> ast.expr:
        return self.constant(MARKS[kind])

    def attribute(self, of: ast.expr, name: str) -> ast.expr:
        return self.place(ast.Attribute(of, name, ast.Load()))

    def call(self, of: ast.expr, method: str, *arguments: ast.expr) -> ast.expr:
        return self.place(ast.Call(self.attribute(of, method), list(arguments), []))

    def statement(self, value: ast.expr) -> ast.stmt:
        return self.place(ast.Expr(value))

    def with_(
        self, context: ast.expr, body: list[ast.stmt], name: ast.expr | None = None
    ) -> ast.stmt:
        return self.place(ast.With([ast.withitem(context, name)], body))
