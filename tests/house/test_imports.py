"""Rules of the house that import-linter cannot express (the floors are in pyproject.toml)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "afterglow"
FILES = sorted(PACKAGE.rglob("*.py"))

# What only some places may import: a place is a file, or a room with a slash behind it.
ONLY_IN = {
    "time": ("clock.py",),
    "sqlite3": ("store/", "keep/"),
    "redis": ("buffer/", "keep/redis/"),
    "psycopg": ("keep/postgres/", "store/postgres/"),
    "opentelemetry.proto": ("otlp/",),
    "google": ("otlp/", "ingest/"),
    "grpc": ("ingest/", "sink/"),
    "confluent_kafka": ("ingest/", "sink/"),
    "starlette": ("ingest/",),
    "uvicorn": ("ingest/",),
    "beaver": ("sink/",),
}

# Pure files decide and do nothing: time is an argument, and whoever calls them has the effects.
PURE = (
    "errors.py",
    "ledger.py",
    "assembly/",
    "model/",
    "analyse/",
    "write/batcher.py",
    "store/columns.py",
    "keep/decay.py",
    "keep/rules.py",
)
NOT_PURE = (
    "afterglow.clock",
    "_thread",
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "queue",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
)


def imported(source: str) -> Iterator[str]:
    """Every module that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            # `from afterglow import clock` imports afterglow.clock.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def lives_in(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or (place[-1] == "/" and path.startswith(place)) for place in places)


def offences(path: str, source: str) -> list[str]:
    modules = set(imported(source))
    wrong = [
        f"{path} imports {module}: only {', '.join(places)} may"
        for banned, places in ONLY_IN.items()
        if not lives_in(path, places)
        for module in modules
        if within(module, banned)
    ]
    if lives_in(path, PURE):
        wrong += [
            f"{path} is pure and imports {module}"
            for module in modules
            if any(within(module, banned) for banned in NOT_PURE)
        ]
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_each_file_imports_what_its_room_may(file: Path) -> None:
    assert offences(str(file.relative_to(PACKAGE)), file.read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("record/tracer.py", "import time"),
        ("record/tracer.py", "def f():\n    from time import sleep"),
        ("ui/cli.py", "import sqlite3"),
        ("model/tree.py", "from afterglow import clock"),
        ("model/tree.py", "from afterglow.clock import monotonic_ns"),
        ("write/batcher.py", "import threading"),
        ("analyse/statistics.py", "import socket"),
    ],
)
def test_the_rules_see_an_offence(path: str, source: str) -> None:
    assert offences(path, source)


def test_the_wall_clock_is_read_in_one_file() -> None:
    """`datetime` may write a time down, but not ask for it."""
    asking = {"now", "utcnow", "today"}
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in asking
        and ast.unparse(node.func.value) in {"datetime", "date", "datetime.datetime"}
    ]
    assert found == []
