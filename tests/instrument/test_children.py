"""Children are traced, too: one run, and parents across processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.instrument.conftest import Side

Program = Callable[[str], Side]

POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
def square(x): return times(x, x)
def times(x, y): return x * y
def fails(): raise SystemExit(5)
def main():
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool: print(pool.map(square, range(10)))
    for target, arguments in ((square, (3,)), (fails, ())):
        process = context.Process(target=target, args=arguments)
        process.start(); process.join(); print(process.exitcode)
    with ProcessPoolExecutor(2, mp_context=context) as pool: print(list(pool.map(square, [1, 2])))
if __name__ == "__main__": main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(program: Program, method: str) -> None:
    side = program(POOL)
    side.same("app.py", method)
    assert side.edges() == {
        ("app.main", None): 1,
        ("app.square", "app.main"): 13,
        ("app.times", "app.square"): 13,
        ("app.fails", "app.main"): 1,
    }
    spans = side.spans()
    assert len({span.run_id for span in spans}) == 1
    assert len({span.pid for span in spans}) >= 4
    assert len({span.trace_id for span in spans}) == 1


def test_subprocesses(program: Program) -> None:
    side = program(
        "import os, subprocess, sys\n"
        "def work():\n"
        "    python = sys.executable\n"
        "    run = lambda *c, **k: print(subprocess.run(c, capture_output=True, text=True, **k))\n"
        "    run(python, 'child.py', 'x')\n"
        "    run(python, '-c', 'import helper; helper.f()')\n"
        "    run(python, '-m', 'helper', env={'A': '1'})\n"
        "    run('sh', '-c', python + ' child.py y')\n"
        "    run(python, 'child.py', 'z', close_fds=False)\n"
        "    os.system(python + ' child.py w')\n"
        "    os.spawnv(os.P_WAIT, python, [python, 'child.py', 'v'])\n"
        "work()\n"
    )
    side.write("child.py", "import helper, os, sys\ndef go(): helper.f()\ngo()\n"
               "print(sys.argv, sorted(os.environ), sys.path)\n")  # fmt: skip
    side.write("helper.py", "def f(): return 1\nif __name__ == '__main__': f()\n")
    side.same("app.py")
    edges = side.edges()
    assert edges.pop(("app.work", None)) == 1
    assert edges.pop(("app.work.<locals>.<lambda>", "app.work")) == 5
    assert edges == {
        ("child.go", "app.work.<locals>.<lambda>"): 3,
        ("child.go", "app.work"): 2,
        ("helper.f", "child.go"): 5,
        ("helper.f", "app.work.<locals>.<lambda>"): 2,
    }


def test_forks_however_they_end(program: Program) -> None:
    side = program(
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "def child(): return leaf()\n"
        "def leaf(): return 1\n"
        "def main():\n"
        "    for how in ('exit', '_exit', 'error'):\n"
        "        sys.stdout.flush()\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n"
        "            child()\n"
        "            if how == 'exit': sys.exit(3)\n"
        "            if how == '_exit': os._exit(4)\n"
        "            raise ValueError(how)\n"
        "        print(how, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "main()\n"
    )
    side.same("app.py")
    assert side.edges() == {
        ("app.main", None): 1,
        ("app.child", "app.main"): 3,
        ("app.leaf", "app.child"): 3,
    }


def test_a_program_that_becomes_another(program: Program) -> None:
    side = program(
        "import os, sys\n"
        "def f(): pass\n"
        "f()\n"
        "if len(sys.argv) == 1:\n"
        "    try: os.execv('/nowhere/python', ['x'])\n"
        "    except FileNotFoundError: print('not there')\n"
        "    f()\n"
        "    sys.stdout.flush()\n"
        "    os.execv(sys.executable, [sys.executable, 'app.py', 'again'])\n"
        "print('second')\n"
    )
    side.same("app.py")
    assert side.edges() == {("app.f", None): 3}


def test_counts_of_a_child_are_its_own(program: Program) -> None:
    side = program(
        "import os\n"
        "def f(): pass\n"
        "for _ in range(5000): f()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    for _ in range(100): f()\n"
        "else:\n"
        "    os.waitpid(pid, 0)\n"
    )
    side.traced("app.py")
    with side.open() as database:
        recorded = sum(1 for _ in database.spans())
        assert database.counts() == {"app.f": 5100 - recorded}


def test_threads_and_tasks(program: Program) -> None:
    side = program(
        "import asyncio, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "async def leaf(i):\n"
        "    await asyncio.sleep(0)\n"
        "    return i\n"
        "async def task(i): return await leaf(i)\n"
        "async def many(): return sum(await asyncio.gather(*(task(i) for i in range(1000))))\n"
        "def job(i): return i\n"
        "def last(): print('last')\n"
        "def main():\n"
        "    print(asyncio.run(many()))\n"
        "    with ThreadPoolExecutor(4) as pool: print(list(pool.map(job, range(20))))\n"
        "    threading.Timer(0.2, last).start()\n"
        "main()\n"
    )
    side.options.append("--no-collapse")
    side.same("app.py")
    assert side.edges() == {
        ("app.main", None): 1,
        ("app.many", "app.main"): 1,
        ("app.task", "app.many"): 1000,
        ("app.leaf", "app.task"): 1000,
        ("app.job", "app.main"): 20,
        ("app.last", "app.main"): 1,
    }
    assert len({span.task_name for span in side.spans() if span.name == "app.leaf"}) == 1000
