"""Databases as real programs leave them, and the command line on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import afterglow
from afterglow.ui.commands import afterglow as command_line

Command = Callable[..., Result]


def record(database: Path, run_id: str, *, spans: int = 3) -> None:
    """A run: main with a load, `spans` steps, the last of which fails."""
    with afterglow.Tracer(database, run_id=run_id) as tracer, tracer.span("main", user="ada"):
        with tracer.span("load", path="a b.toml"):
            pass
        for i in range(spans):
            try:
                with tracer.span("step", i=i, kind="x"):
                    if i == spans - 1:
                        raise ValueError("boom")
            except ValueError:
                pass


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of one run, `first`, that the commands find by themselves."""
    path = tmp_path / "afterglow.db"
    record(path, "first")
    monkeypatch.setenv("AFTERGLOW_DATABASE", str(path))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Calls a command in this process: `command("report", "--json")`; `columns` is the width."""

    def call(*words: str, columns: int | None = None, status: int = 0) -> Result:
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        result = CliRunner().invoke(command_line, list(words))
        assert result.exit_code == status, result.output
        return result

    return call


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls a command in a process of its own, in an empty folder."""

    def call(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        return subprocess.run(
            [sys.executable, "-m", "afterglow", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,  # type: ignore[call-overload]
        )

    return call
