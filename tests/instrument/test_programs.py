"""Programs that load the user's code in ways of their own: pytest, servers; and include globs."""

from __future__ import annotations

import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from time import monotonic_ns

from tests.instrument.conftest import Side

Program = Callable[[str], Side]


def test_pytest_with_its_assertions_rewritten(side: Side) -> None:
    side.write("conftest.py", "import pytest\n@pytest.fixture\ndef three():\n    yield made()\n"
               "def made(): return 3\n")  # fmt: skip
    side.write(
        "test_it.py",
        "import helper\n"
        "def used(x): return helper.f(x)\n"
        "def test_good(three): assert used(three) == 4\n"
        "class TestKind:\n"
        "    def test_bad(self):\n"
        "        numbers = [1, 2]\n"
        "        assert used(numbers[0]) == 5, 'message'\n",
    )
    side.write("helper.py", "def f(x): return x + 1\n")
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-q")
    plain, traced = side.plain(*words), side.traced(*words)
    assert traced.status == plain.status == 1
    assert "where 2 = used(1)" in traced.out
    chance = re.compile(r"in \d+\.\d+s|0x[0-9a-f]+")
    assert chance.sub("", traced.out) == chance.sub("", plain.out)
    assert side.edges() == {
        ("conftest.three", None): 1,
        ("conftest.made", "conftest.three"): 1,
        ("test_it.test_good", None): 1,
        ("test_it.used", "test_it.test_good"): 1,
        ("test_it.TestKind.test_bad", None): 1,
        ("test_it.used", "test_it.TestKind.test_bad"): 1,
        ("helper.f", "test_it.used"): 2,
    }
    with side.open() as database:
        assert database.runs()[0].exit_status == 1


def test_a_server_under_requests(side: Side) -> None:
    side.write("page.txt", "hello")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = side.start(side.command("-m", "http.server", "--bind", "127.0.0.1", str(port)))
    assert process.stdout is not None
    try:
        _answered(port)
        for _ in range(20):
            _answered(port)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()  # nothing to one that has ended
    assert process.returncode == 0
    edges = side.edges()
    handler = "http.server.SimpleHTTPRequestHandler"
    assert edges["http.server.BaseHTTPRequestHandler.handle", f"{handler}.__init__"] == 21
    assert edges[f"{handler}.send_head", f"{handler}.do_GET"] == 21


def _answered(port: int) -> None:
    """Ask until there is an answer; the server may not listen yet."""
    deadline_ns = monotonic_ns() + 60 * 10**9  # a busy machine takes its time to start Python
    while monotonic_ns() < deadline_ns:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=10) as page:
                assert page.read() == b"hello"
            return
        except ConnectionError:
            continue
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
    raise AssertionError("no answer")


def test_installed_code_is_traced_when_it_is_asked_for(program: Program) -> None:
    side = program("import colorsys\ndef own(): return colorsys.rgb_to_hsv(0.1, 0.2, 0.3)\nown()\n")
    side.traced("app.py")
    assert side.edges() == {("app.own", None): 1}
    side.options += ["--include", "color*", "--exclude", "app"]
    side.traced("app.py")
    assert side.edges()["colorsys.rgb_to_hsv", None] == 1


def test_a_file_that_cannot_be_instrumented_runs_untraced(program: Program) -> None:
    # Python compiles this, but its tree is too deep for a visitor.
    side = program(f"x = 1\ndef f(): return {' + '.join(['x'] * 1500)}\nprint(f())\n")
    outcome = side.traced("app.py")
    assert (outcome.status, outcome.out) == (0, "1500\n")
    (line,) = outcome.err.splitlines()
    assert line.startswith("afterglow: ")
    assert "app.py runs without spans: RecursionError" in line
    assert side.edges() == {}


def test_bad_input_is_one_line(program: Program) -> None:
    side = program("print('ran')")
    for options, said in (
        (["--db", str(side.folder / "missing" / "x.db")], "missing"),
        (["--db", str(side.folder)], "folder"),
        (["--max-spans-per-second", "-1"], "max_spans_per_second"),
    ):
        side.options = options
        outcome = side.traced("app.py")
        assert (outcome.status, outcome.out) == (2, "")
        (line,) = outcome.err.splitlines()
        assert line.startswith("afterglow: ")
        assert said in line
