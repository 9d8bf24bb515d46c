"""`afterglow run --otel`: functions and instrumented code in the same trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.instrument.conftest import Side


@pytest.fixture
def side(tmp_path: Path) -> Side:
    folder = tmp_path / "project"
    folder.mkdir()
    side = Side(folder)
    side.options.append("--otel")
    side.environment["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "*"
    return side


def test_each_kind_of_span_under_the_other(side: Side) -> None:
    side.write(
        "app.py",
        "from opentelemetry import trace\n"
        "tracer = trace.get_tracer('app')\n"
        "def outer():\n"
        "    with tracer.start_as_current_span('a'): inner()\n"
        "    leaf()\n"
        "def inner():\n"
        "    span = tracer.start_span('b')\n"
        "    with trace.use_span(span, end_on_exit=True):\n"  # a Context of the API's own making
        "        leaf()\n"
        "        with tracer.start_as_current_span('c'): pass\n"
        "def leaf(): tracer.start_span('d').end()\n"
        "outer()\n",
    )
    assert side.traced("app.py").status == 0
    assert side.edges() == {
        ("app.outer", None): 1,
        ("a", "app.outer"): 1,
        ("app.inner", "a"): 1,
        ("b", "app.inner"): 1,
        ("c", "b"): 1,
        ("app.leaf", "b"): 1,
        ("app.leaf", "app.outer"): 1,
        ("d", "app.leaf"): 2,
    }


def test_threads_pools_tasks_and_processes_follow(side: Side) -> None:
    side.write(
        "app.py",
        "import asyncio, os, subprocess, sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from opentelemetry import trace\n"
        "tracer = trace.get_tracer('app')\n"
        "def leaf(name): tracer.start_span(name).end()\n"
        "async def task(): leaf('in task')\n"
        "def spread():\n"
        "    with tracer.start_as_current_span('a'):\n"
        "        if (pid := os.fork()) == 0:\n"
        "            leaf('in fork'); os._exit(0)\n"
        "        os.waitpid(pid, 0)\n"
        "        with ThreadPoolExecutor(1) as pool: pool.submit(leaf, 'in pool').result()\n"
        "        thread = threading.Thread(target=leaf, args=('in thread',))\n"
        "        thread.start(); thread.join()\n"
        "        subprocess.run([sys.executable, 'child.py'], check=True)\n"
        "    pool = ThreadPoolExecutor(1)\n"
        "    with tracer.start_as_current_span('b'): pool.submit(int).result()\n"
        "    pool.submit(leaf, 'later').result()\n"  # in the thread that was started under b
        "async def main():\n"
        "    with tracer.start_as_current_span('c'): await asyncio.create_task(task())\n"
        "spread()\n"
        "asyncio.run(main())\n",
    )
    side.write(
        "child.py",
        "from opentelemetry import trace\n"
        "def child(): trace.get_tracer('child').start_span('in process').end()\n"
        "child()\n",
    )
    assert side.traced("app.py").status == 0
    edges = side.edges()
    for where in ("pool", "thread", "fork"):
        assert edges["app.leaf", "a"] == 3 and edges[f"in {where}", "app.leaf"] == 1
    assert edges["child.child", "a"] == edges["in process", "child.child"] == 1
    assert edges["app.leaf", "app.spread"] == 1
    assert edges["app.task", "c"] == edges["c", "app.main"] == 1
    assert {name for name, parent in edges if parent is None} == {"app.spread", "app.main"}


def test_a_trace_from_elsewhere_goes_on_inside(side: Side) -> None:
    side.write(
        "app.py",
        "from opentelemetry import context, propagate, trace\n"
        "tracer = trace.get_tracer('app')\n"
        "def work(): tracer.start_span('work').end()\n"
        "def take(headers):\n"
        "    token = context.attach(propagate.extract(headers))\n"
        "    work()\n"
        "    context.detach(token)\n"
        "take({'traceparent': '00-' + 'ab' * 16 + '-' + 'cd' * 8 + '-01'})\n"
        "tracer.start_span('alone', context.Context()).end()\n",
    )
    assert side.traced("app.py").status == 0
    spans = {span.name: span for span in side.spans()}
    theirs = int("ab" * 16, 16)
    assert spans["app.work"].trace_id == spans["work"].trace_id == theirs
    assert spans["app.work"].parent_span_id == int("cd" * 8, 16)
    assert spans["work"].parent_span_id == spans["app.work"].span_id
    assert spans["app.take"].trace_id != theirs
    assert spans["alone"].parent_span_id == 0


def test_a_program_that_sees_nothing_of_it(side: Side) -> None:
    side.write("app.py", "import sys\ndef f(): return sys.argv\nprint(f())\n")
    side.same("app.py", "x")
    assert side.edges() == {("app.f", None): 1}


def test_instrumentations_are_loaded(side: Side) -> None:
    side.environment["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "fastapi,sqlalchemy"
    side.write(
        "app.py",
        "import httpx\n"
        "def ask():\n"
        "    try: httpx.get('http://127.0.0.1:1/')\n"
        "    except httpx.ConnectError: pass\n"
        "ask()\n",
    )
    assert side.traced("app.py").err == ""
    assert side.edges() == {("app.ask", None): 1, ("GET", "app.ask"): 1}


def test_without_the_flag_nothing_of_opentelemetry_is_there(side: Side) -> None:
    side.options.remove("--otel")
    side.write("app.py", "import sys\nprint(sorted(m for m in sys.modules if 'opentel' in m))\n")
    assert side.traced("app.py").out == "[]\n"
