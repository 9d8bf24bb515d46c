"""kill -9 of a process that sends on, to a real server: the books after it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from afterglow.config import SendConfig
from afterglow.sink.otlp import OtlpSink
from afterglow.sink.outgoing import Outgoing
from afterglow.sink.outgoing_books import read_books
from tests.sink.backend import Backend
from tests.sink.payloads import buffered, part_with
from tests.sink.test_outgoing_thread import until

CHILD = """
import os, signal, sys
from pathlib import Path
from afterglow.config import SendConfig
from afterglow.sink import outgoing_queue
from afterglow.sink.otlp import OtlpSink
from afterglow.sink.outgoing import Outgoing
from tests.sink.test_outgoing_kills import page

folder, url, at, nth = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
config = SendConfig(url=url, max_request_bytes=1024, retry_s=0.01)
calls = 0

def before(kind, name):
    real = getattr(kind, name)
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    setattr(kind, name, call)

if at == "note":
    before(outgoing_queue.Books, "note")
elif at == "append":
    before(outgoing_queue.Spool, "append")
else:
    before(OtlpSink, "write")
outgoing = Outgoing("far", OtlpSink(config), folder, config, report=lambda _: None)
for number in range(20):
    outgoing.write([page(number)])
while outgoing.books().queued:
    outgoing._clock.wait(outgoing._wake, 0.01)
outgoing.close()
"""


def page(number: int) -> object:
    return part_with([buffered(number + 1, trace=number + 1, name=f"{number}" + " " * 300)])


@pytest.mark.parametrize("at", ["note", "append", "send"])
@pytest.mark.parametrize("nth", [1, 2, 7, 20])
@pytest.mark.parametrize("away", [False, True])
def test_killed_anywhere(backend: Backend, tmp_path: Path, at: str, nth: int, away: bool) -> None:
    if away:
        backend.stop()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "o"), backend.url, at, str(nth)], check=False
    )
    assert done.returncode == -signal.SIGKILL
    if away:
        backend.start()
    assert read_books(tmp_path / "o").balanced
    config = SendConfig(url=backend.url, max_request_bytes=1024, retry_s=0.01)
    outgoing = Outgoing("far", OtlpSink(config), tmp_path / "o", config, report=lambda _: None)
    try:
        for number in range(20):  # nobody had acknowledged: all of it comes again
            outgoing.write([page(number)])  # type: ignore[list-item]
        until(lambda: not outgoing.books().queued)
        books = outgoing.books()
    finally:
        outgoing.close()
    times = Counter(name.strip() for name in backend.names())
    assert set(times) == {f"{number}" for number in range(20)}
    assert sum(times.values()) <= 21  # one request twice at most
    assert (books.taken, books.sent, books.balanced) == (20, 20, True)
