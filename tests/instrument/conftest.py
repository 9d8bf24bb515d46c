"""Programs in files, run by plain Python and under `afterglow run`, side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import afterglow
from afterglow.config import RunConfig
from afterglow.instrument.compiling import code_of_source
from afterglow.instrument.site import Rule, Spans
from afterglow.model.span import Span
from afterglow.record.context import current
from tests.conftest import Recording

TIMEOUT_S = 60


class Outcome(NamedTuple):
    """What a person sees of a program."""

    status: int
    out: str
    err: str


class Side:
    """A folder in which programs are run, plainly and traced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder.parent / "run.db"
        self.options: list[str] = ["--quiet", "--db", str(self.database)]
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AFTERGLOW_", "PYTHON", "TRACE", "COVERAGE"))
        }

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "afterglow", "run", *self.options, *words]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _run(self, command: list[str], given: str) -> Outcome:
        process = self.start(command)
        try:
            out, err = process.communicate(given, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Outcome(process.returncode, out, err)

    def plain(self, *words: str, given: str = "") -> Outcome:
        return self._run([sys.executable, *words], given)

    def traced(self, *words: str, given: str = "") -> Outcome:
        return self._run(self.command(*words), given)

    def same(self, *words: str, given: str = "") -> Outcome:
        """Run both, and compare all that a person sees."""
        plain = self.plain(*words, given=given)
        traced = self.traced(*words, given=given)
        assert traced == plain
        return traced

    def open(self) -> afterglow.wiring.Database:  # type: ignore[name-defined]
        return afterglow.open(self.database)

    def spans(self) -> list[Span]:
        with self.open() as database:
            books = database.ledger()
            spans = list(database.spans())
        assert books["in_flight"] == 0
        assert books["recorded"] == books["written"] + sum(books["dropped"].values())
        return spans

    def edges(self) -> dict[tuple[str, str | None], int]:
        """How many spans of which name under which parent ("?": one that is not there)."""
        spans = self.spans()
        names = {span.span_id: span.name for span in spans}
        found: dict[tuple[str, str | None], int] = {}
        for span in spans:
            parent = names.get(span.parent_span_id, "?") if span.parent_span_id else None
            key = (span.name, parent)
            found[key] = found.get(key, 0) + 1
        return found


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    folder = tmp_path / "project"
    folder.mkdir()
    yield Side(folder)


@pytest.fixture
def program(side: Side) -> Callable[[str], Side]:
    """Write `app.py`, and get the side to run it on."""

    def write(source: str) -> Side:
        side.write("app.py", source)
        return side

    return write


class Loaded:
    """A module `m` with its functions instrumented; attributes are the module's names."""

    def __init__(self, recording: Recording, source: str, **settings: Any) -> None:
        self.recording = recording
        self.spans_made = Spans(recording.tracer, Rule(RunConfig(**settings)))
        make = self.spans_made
        code = code_of_source(source, "m.py", lambda k, q, p, n: make.site(k, f"m.{q}", p, n))
        self.names: dict[str, Any] = {"__name__": "m"}
        exec(code, self.names)

    def __getattr__(self, name: str) -> Any:
        return self.names[name]

    def spans(self) -> list[Span]:
        assert current.get() is None, "a span is left current"
        return self.recording.spans()

    def edges(self) -> list[tuple[str, str | None]]:
        """(name, parent's name), without the module, in the order of the ends."""
        spans = self.spans()
        names = {span.span_id: span.name[2:] for span in spans}
        return [(span.name[2:], names.get(span.parent_span_id)) for span in spans]


Load = Callable[..., Loaded]


@pytest.fixture
def load(recording: Recording) -> Iterator[Load]:
    yield lambda source, **settings: Loaded(recording, source, **settings)


@pytest.fixture(params=[False, True], ids=["recorded", "counted"])
def load_hot(request: pytest.FixtureRequest, recording: Recording) -> Load:
    """Code in both its states: what it does must be the same."""

    def load(source: str) -> Loaded:
        loaded = Loaded(recording, source)
        if request.param:
            for site in loaded.spans_made._sites:
                site.collapse()
        return loaded

    return load
