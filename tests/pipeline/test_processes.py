"""Forks, pools and exits: every span there once, parents right, books balanced."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import afterglow
from afterglow.ledger import balanced
from afterglow.model.span import Span


def run(folder: Path, program: str, *, status: int = 0) -> list[Span]:
    """Run a program that records into `t.db`; its spans, once the books were seen to balance."""
    script = folder / "program.py"
    script.write_text("import afterglow, os, sys\n" + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == status, done.stderr
    with afterglow.open(folder / "t.db") as database:
        spans = list(database.spans())
        books = database.ledger()
    assert balanced(books), books
    assert books["in_flight"] == 0
    assert books["written"] == len(spans)
    return spans


def names(spans: list[Span]) -> list[str]:
    return sorted(span.name for span in spans)


def test_a_forked_child_writes_its_own_and_the_parent_its_own(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
        tracer = afterglow.Tracer("t.db")
        with tracer.span("root"):
            with tracer.span("before"): pass
            pid = os.fork()
            if pid == 0:
                with tracer.span("in child"): pass
                sys.exit(0)
            os.waitpid(pid, 0)
        """,
    )
    assert names(spans) == ["before", "in child", "root"]
    by_name = {span.name: span for span in spans}
    assert by_name["in child"].parent_span_id == by_name["root"].span_id
    assert by_name["in child"].trace_id == by_name["root"].trace_id
    assert by_name["in child"].pid != by_name["root"].pid


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_pool(tmp_path: Path, method: str) -> None:
    spans = run(
        tmp_path,
        f"""
        import multiprocessing
        tracer = afterglow.Tracer("t.db", run_id="pool")
        def work(number):
            with tracer.span("work", number=number):
                return number
        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(3) as pool:
                with tracer.span("root"):
                    assert pool.map(work, range(60), chunksize=1) == list(range(60))
                pool.close()
                pool.join()
        """,
    )
    assert sorted(s.attributes["number"] for s in spans if s.name == "work") == list(range(60))


def test_a_preforking_server_with_four_workers(tmp_path: Path) -> None:
    """As gunicorn --preload: the application, and its tracer, are made before the forks."""
    spans = run(
        tmp_path,
        """
        tracer = afterglow.Tracer("t.db")
        with tracer.span("preload"): pass
        workers = []
        for worker in range(4):
            pid = os.fork()
            if pid == 0:
                for request in range(100):
                    with tracer.span("request", worker=worker, request=request):
                        with tracer.span("query"): pass
                sys.exit(0)
            workers.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in workers)
        """,
    )
    requests = {
        (span.attributes["worker"], span.attributes["request"]): span
        for span in spans
        if span.name == "request"
    }
    assert len(requests) == 400
    ids = {span.span_id for span in requests.values()}
    assert sum(span.parent_span_id in ids for span in spans if span.name == "query") == 400
    assert sum(span.name == "preload" for span in spans) == 1


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('out')", 1),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_every_exit_flushes(tmp_path: Path, leave: str, status: int) -> None:
    spans = run(
        tmp_path,
        f"""
        import signal
        tracer = afterglow.Tracer("t.db", flush_interval_s=3600)
        with tracer.span("work"): pass
        {leave}
        """,
        status=status,
    )
    assert names(spans) == ["work"]


def test_threads_that_outlive_the_main_one_are_waited_for(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
        import threading
        tracer = afterglow.Tracer("t.db")
        ready = threading.Event()
        def late():
            threading.main_thread().join()
            with tracer.span("late"): pass
        threading.Thread(target=late).start()
        """,
    )
    assert names(spans) == ["late"]


def test_no_signal_handler_is_installed(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with afterglow.Tracer(tmp_path / "t.db") as tracer, tracer.span("work"):
        pass
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_fifty_tracers_leave_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    import threading

    def once() -> None:
        with afterglow.Tracer(tmp_path / "t.db") as tracer, tracer.span("work"):
            pass

    once()
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        once()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
