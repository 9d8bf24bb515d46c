"""Signals end a traced program as they would end it untraced; what was recorded is there."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.instrument.conftest import Outcome, Side

WORKS = """
import signal, sys, time
def inner(): time.sleep(0.005)
def work():
    for _ in range(3): inner()
    print("ready", flush=True)
    while True: inner()
def own(signum, frame):
    print("mine", signum)
    sys.exit(9)
if sys.argv[1] == "handler":
    print(signal.signal(signal.SIGTERM, own))
if sys.argv[1] == "back":
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(before, signal.signal(signal.SIGTERM, before), signal.getsignal(signal.SIGTERM))
try:
    work()
except KeyboardInterrupt:
    if sys.argv[1] != "caught": raise
    print("caught")
"""


def _signalled(side: Side, command: list[str], number: int) -> Outcome:
    process = side.start(command)
    assert process.stdout is not None
    seen = ""
    while "ready" not in seen:
        line = process.stdout.readline()
        assert line, process.communicate()
        seen += line
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    # Where it was interrupted is chance.
    last = err.splitlines()[-1:] if err else []
    return Outcome(process.returncode, seen + out, "".join(last))


@pytest.mark.parametrize("mode", ["none", "handler", "back", "caught"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_does_what_it_did(
    program: Callable[[str], Side], mode: str, number: signal.Signals
) -> None:
    import sys

    side = program(WORKS)
    plain = _signalled(side, [sys.executable, "app.py", mode], number)
    traced = _signalled(side, side.command("app.py", mode), number)
    assert traced == plain
    with side.open() as database:
        (run,) = database.runs()
        assert (run.state, run.exit_status) == ("finished", plain.status)
        names = {span.name for span in database.spans()}
    assert names - {"app.own"} == {"app.work", "app.inner"}


def test_sigterm_leaves_the_open_spans_visible(program: Callable[[str], Side]) -> None:
    side = program(WORKS)
    _signalled(side, side.command("app.py", "none"), signal.SIGTERM)
    spans = side.spans()
    assert [span.name for span in spans if span.end_ns is None and span.name == "app.work"]
    assert len([span for span in spans if span.name == "app.inner"]) >= 3
