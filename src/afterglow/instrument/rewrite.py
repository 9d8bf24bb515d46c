"""From the syntax tree of a module to one whose functions open spans.

Each function of the module, at any depth, becomes

    def f(...):                                 def g(...):  # a generator
        "its docstring"                             with SITE.opened() as .afterglow:
        if SITE.hot:                                    ... each yield: see generators.py ...
            SITE.calls += 1
            ... its body ...                    lambda x: <expression> if SITE.hot and SITE.add()
        else:                                       else SITE.done(SITE.opened(), <expression>)
            with SITE.opened():
                ... its body ...

where SITE stands for a constant, so there is no name that the program could see or change, no
frame of ours below the program's, and nothing to look up. The syntax tree only takes plain
constants: each kind of function has one placeholder (`MARKS`), which compiling.py replaces in
the code object. A body that has functions of its own is not written twice (its size would
double at each depth): it runs in the `with` alone, which costs a counted call 0.1 us more.

Why this and not wrappers, `sys.setprofile` or `sys.monitoring`: wrappers are frames, and other
objects than the program made; the profile function costs every call of every library; and
`sys.monitoring` is not in 3.11. Measured: a counted call costs 15 to 25 ns, a recorded one 1 us.

Statements of ours stand on the line of the body's first statement, without columns, so the lines
of tracebacks and debuggers are the program's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from afterglow.instrument.generators import LOCALS_READERS, SPAN_NAME, rewrite_yields
from afterglow.instrument.nodes import Builder

__all__ = ["instrumented"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
#: Bodies of more nodes than this are not written twice: they are not what is called in a hurry.
_LARGEST_TWICE: Final = 3_000
#: Literals: the compiler warns of one that is called or subscripted, and once is enough.
_LITERALS: Final = (
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.JoinedStr,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
    ast.GeneratorExp,
)


def instrumented(tree: ast.Module, *, functions: bool = True, main: bool = False) -> ast.Module:
    """The module, changed in place; `main` wraps all of it, to learn how the program ends."""
    if functions:
        _Rewriter().visit(tree)
    at = _first_statement(tree.body, future=True)
    rest = tree.body[at:]
    if main and rest:
        build = Builder(rest[0])
        tree.body[at:] = [build.with_(build.site("main"), rest)]
    return tree


class _Rewriter(ast.NodeTransformer):
    """Inner functions first: what is written twice is finished."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        _rewrite_function(node)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        self.generic_visit(node)
        _rewrite_function(node)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        self.generic_visit(node)
        shape = _Shape([node.body])
        if shape.yields:
            return node  # a generator without statements: there is no place for a `with`
        build = Builder(node.body)
        site = build.site("lambda")
        recorded = build.call(site, "done", build.call(site, "opened"), node.body)
        if not shape.twice:
            node.body = recorded
            return node
        counted = ast.BoolOp(ast.And(), [build.attribute(site, "hot"), build.call(site, "add")])
        node.body = build.place(ast.IfExp(build.place(counted), node.body, recorded))
        return node


def _rewrite_function(node: _Function) -> None:
    at = _first_statement(node.body)
    body = node.body[at:]
    build = Builder(body[0] if body else node.body[0])
    if not body:  # nothing but a docstring
        body = [build.place(ast.Pass())]
    shape = _Shape(body)
    kind = "function"
    if shape.yields:
        kind = "whole" if shape.looks_at_locals else "generator"
    site = build.site(kind)
    front: list[ast.stmt] = []
    if shape.declarations and shape.twice:
        # A name may not be declared after its use, which the second copy would do.
        front = list(shape.declarations)
        body = [_WithoutDeclarations().visit(statement) for statement in body]
    recorded, name = body, None
    if kind == "generator":
        recorded = rewrite_yields(body, copied=shape.twice)
        name = build.place(ast.Name(SPAN_NAME, ast.Store()))
    block = build.with_(build.call(site, "opened"), recorded, name)
    if shape.twice:
        calls = build.place(ast.Attribute(site, "calls", ast.Store()))
        count = build.place(ast.AugAssign(calls, ast.Add(), build.constant(1)))
        hot = build.attribute(site, "hot")
        block = build.place(ast.If(hot, [count, *body], [block]))
    node.body[at:] = [*front, block]


def _first_statement(body: list[ast.stmt], *, future: bool = False) -> int:
    """Behind the docstring, and behind `from __future__` lines, which must stay in front."""
    at = 0
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        at = 1 if isinstance(body[0].value.value, str) else 0
    while future and at < len(body):
        statement = body[at]
        if not isinstance(statement, ast.ImportFrom) or statement.module != "__future__":
            break
        at += 1
    return at


class _Shape:
    """What is in a function's own scope, apart from the functions inside it."""

    def __init__(self, body: list[ast.stmt] | list[ast.expr]) -> None:
        self.yields = False
        self.looks_at_locals = False
        self.declarations: list[ast.Global | ast.Nonlocal] = []
        scopes = warned = False
        nodes = 0
        for node in _own_nodes(body):
            nodes += 1
            if isinstance(node, ast.Yield | ast.YieldFrom):
                self.yields = True
            elif isinstance(node, _SCOPES):
                scopes = True
            elif isinstance(node, ast.Name):
                self.looks_at_locals = self.looks_at_locals or node.id in LOCALS_READERS
            elif isinstance(node, ast.Global | ast.Nonlocal):
                self.declarations.append(node)
            else:
                warned = warned or _is_warned_of(node)
        self.twice = not scopes and not warned and nodes <= _LARGEST_TWICE


def _own_nodes(body: list[ast.stmt] | list[ast.expr]) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def _is_warned_of(node: ast.AST) -> bool:
    """Whether the compiler may have something to say of it."""
    if isinstance(node, ast.Compare):
        return any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops) and any(
            isinstance(side, _LITERALS)
            and not (isinstance(side, ast.Constant) and side.value in (None, True, False, ...))
            for side in (node.left, *node.comparators)
        )
    if isinstance(node, ast.Call):
        return isinstance(node.func, _LITERALS)
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, _LITERALS)
    if isinstance(node, ast.Try | ast.TryStar):
        return bool(node.finalbody) and any(
            isinstance(inner, ast.Return | ast.Break | ast.Continue)
            for inner in _own_nodes(node.finalbody)
        )
    return isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple)


class _WithoutDeclarations(ast.NodeTransformer):
    """Takes `global` and `nonlocal` out of a function's own scope."""

    def visit_Global(self, node: ast.Global) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)
