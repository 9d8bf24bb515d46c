"""`pytest --afterglow[=FILE]`: a trace for each test, and the slowest of them at the end.

Without the option this file is all that is loaded, and it imports nothing of ours. With it, each
test is a trace: the test, and in it setup, call and teardown, under which are the spans of what it
calls. docs/testing.md has it all.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from afterglow.record.span import Span
    from afterglow.wiring import Tracer

__all__ = ["pytest_addoption", "pytest_configure"]

_DEFAULT = "afterglow.db"
_SLOWEST = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("afterglow", "traces of tests (afterglow)")
    group.addoption(
        "--afterglow",
        nargs="?",
        const=_DEFAULT,
        default=None,
        metavar="FILE",
        help=f"record a trace for each test; --afterglow=FILE if not into {_DEFAULT}",
    )
    group.addoption(
        "--afterglow-slowest",
        type=int,
        default=_SLOWEST,
        metavar="N",
        help=f"how many of the slowest tests to show with --afterglow ({_SLOWEST}; 0: none)",
    )


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("afterglow")
    if given is None or config.getoption("collectonly"):
        return
    path = _database(given, config)
    config.option.afterglow = str(path)  # workers of pytest-xdist get the same, absolute
    if not _is_controller(config):
        config.pluginmanager.register(_Recording(path, config), "afterglow-recording")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Slowest(path, config), "afterglow-slowest")


def _database(given: str, config: pytest.Config) -> Path:
    path = (config.invocation_params.dir / given).absolute()
    # argparse gives an option the word that follows, and that is a test more often than not.
    if "::" in given or path.is_dir() or path.suffix == ".py":
        raise pytest.UsageError(
            f"--afterglow took {given!r} for its file: put it last, or write --afterglow={_DEFAULT}"
        )
    return path


def _is_controller(config: pytest.Config) -> bool:
    """Whether pytest-xdist runs the tests elsewhere."""
    return bool(getattr(config.option, "dist", "no") != "no" and getattr(config.option, "tx", None))


class _Recording:
    """Makes the spans, in each process that runs tests."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        from afterglow.errors import AfterglowError
        from afterglow.wiring import Tracer

        try:
            self._tracer: Tracer = Tracer(path)
        except AfterglowError as error:
            raise pytest.UsageError(str(error)) from None
        worker = getattr(config, "workerinput", None)
        self._worker = worker["workerid"] if worker else ""
        self._test: Span | None = None
        self._outcome = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        attributes: dict[str, Any] = {
            "test.case.name": item.name,
            "pytest.nodeid": item.nodeid,
            "pytest.markers": [marker.name for marker in item.iter_markers()],
            "code.file.path": str(item.path),
        }
        if self._worker:
            attributes["pytest.worker"] = self._worker
        # A trace of its own, whatever was current when pytest was started.
        with self._tracer.continue_trace({}):
            span = self._tracer.span(item.nodeid).set_attributes(attributes)
            with span:
                self._test, self._outcome = span, "passed"
                try:
                    return (yield)
                finally:
                    span.set(**{"pytest.outcome": self._outcome})
                    if self._outcome in ("failed", "error"):
                        span.set_status("error", self._outcome)
                    self._test = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        return (yield from self._phase("setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        return (yield from self._phase("call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        return (yield from self._phase("teardown"))

    def _phase(self, name: str) -> Generator[None, Any, Any]:
        with self._tracer.span(name):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report: pytest.TestReport = yield
        outcome = _outcome(report)
        if self._outcome == "passed" or outcome in ("failed", "error"):
            self._outcome = outcome
        return report

    def pytest_unconfigure(self) -> None:
        self._tracer.close()


def _outcome(report: pytest.TestReport) -> str:
    """As pytest's summary says it: an exception in setup or teardown is an error."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return report.outcome


class _Slowest:
    """Adds up what each test took, and says which took longest; where tests are reported."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        self._path = path
        self._most: int = config.getoption("afterglow_slowest")
        self._seconds: dict[str, dict[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self._seconds.setdefault(report.nodeid, {})
        phases[report.when or ""] = phases.get(report.when or "", 0.0) + report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        terminalreporter.write_sep("-", "afterglow")
        slowest = sorted(self._seconds.items(), key=lambda test: -sum(test[1].values()))
        for nodeid, phases in slowest[: max(0, self._most)]:
            parts = ", ".join(f"{name} {s:.3f}" for name, s in phases.items() if s >= 0.001)
            write(f"{sum(phases.values()):8.3f} s  {nodeid}{f'  ({parts})' if parts else ''}")
        write(f"{len(self._seconds)} tests recorded: afterglow report {self._shown()} --tree")

    def _shown(self) -> str:
        try:
            return str(self._path.relative_to(Path.cwd()))
        except ValueError:
            return str(self._path)
