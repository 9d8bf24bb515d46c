"""A generator's span is current only while the generator's own code runs.

Its frame runs in the context of whoever consumes it, so what it makes current would leak at
each `yield`. The span sits in a local variable that no program can name, `.afterglow`, and

    yield x         becomes  (yield x) if .afterglow.light
                             else .afterglow.resume((yield .afterglow.pause(x)))
    yield from it   becomes  the same with `yield from` and .afterglow.delegate(it)

`pause` gives the consumer its context back, `resume` takes the generator's again. An exception
that is thrown in at a yield passes `resume` by; where it arrives (each `except`, each `finally`)
`again` does the same. What these do is in spans.py, GeneratorSpan. A generator that looks at
its own locals by name (`locals()`, `eval`) must not find ours: it is recorded without any of
this, never current.
"""

from __future__ import annotations

import ast
import copy
from typing import Final, TypeVar

from afterglow.instrument.nodes import Builder

__all__ = ["LOCALS_READERS", "SPAN_NAME", "rewrite_yields"]

SPAN_NAME: Final = ".afterglow"
LOCALS_READERS: Final = frozenset(("locals", "vars", "dir", "eval", "exec"))

_Try = TypeVar("_Try", ast.Try, ast.TryStar)


def rewrite_yields(body: list[ast.stmt], *, copied: bool) -> list[ast.stmt]:
    """The body with its own yields rewritten; a new one if `copied`."""
    rewriter = _YieldRewriter()
    if copied:
        body = copy.deepcopy(body)
    return [rewriter.visit(statement) for statement in body]


class _YieldRewriter(ast.NodeTransformer):
    """Stays out of functions and classes inside."""

    def __init__(self) -> None:
        self._yields = 0  # seen so far

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave

    def visit_Yield(self, node: ast.Yield) -> ast.AST:
        value = node.value
        if value is None:
            value = ast.copy_location(ast.Constant(None), node)
        return self._rewritten(node, value, "pause")

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        return self._rewritten(node, node.value, "delegate")

    def _rewritten(self, node: ast.Yield | ast.YieldFrom, value: ast.expr, before: str) -> ast.AST:
        self._yields += 1
        build = Builder(node)

        def span() -> ast.expr:
            return build.place(ast.Name(SPAN_NAME, ast.Load()))

        plain = _is_plain(value)
        if not plain:
            value = self.visit(value)
        there = type(node)(build.call(span(), before, value))
        changed = build.call(span(), "resume", ast.copy_location(there, node))
        if not plain:
            return changed  # twice what has yields or functions in it would double at each depth
        test = build.attribute(span(), "light")
        return build.place(ast.IfExp(test, node, changed))

    def _visit_try(self, node: _Try) -> _Try:
        before = self._yields
        node.body = [self.visit(statement) for statement in node.body]
        could_be_thrown_in = self._yields > before
        node.orelse = [self.visit(statement) for statement in node.orelse]
        for handler in node.handlers:
            self.generic_visit(handler)
            if could_be_thrown_in:
                handler.body.insert(0, _again(handler.body[0]))
        could_be_thrown_in = self._yields > before
        node.finalbody = [self.visit(statement) for statement in node.finalbody]
        if could_be_thrown_in and node.finalbody:
            node.finalbody.insert(0, _again(node.finalbody[0]))
        return node

    def visit_Try(self, node: ast.Try) -> ast.Try:
        return self._visit_try(node)

    def visit_TryStar(self, node: ast.TryStar) -> ast.TryStar:
        return self._visit_try(node)


def _again(before: ast.stmt) -> ast.stmt:
    build = Builder(before)
    span = build.place(ast.Name(SPAN_NAME, ast.Load()))
    return build.statement(build.call(span, "again"))


def _is_plain(value: ast.expr) -> bool:
    """Whether the expression can be written twice."""
    inner = (ast.Yield, ast.YieldFrom, ast.Lambda)
    return not any(isinstance(node, inner) for node in ast.walk(value))
