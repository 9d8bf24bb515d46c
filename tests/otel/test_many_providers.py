"""Forks, providers that come and go, and two of them."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import afterglow
from afterglow.otel import TracerProvider
from afterglow.otel.provider import _providers
from tests.otel.conftest import Provided


def in_child(function: Any) -> None:
    """Run it in a forked child, which leaves as workers of servers do."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_spans_of_forked_children_have_ids_of_their_own(tmp_path: Path) -> None:
    provider = TracerProvider(database=tmp_path / "traces.db")
    tracer = provider.get_tracer("t")

    def work() -> None:
        for _ in range(20):
            with tracer.start_as_current_span("child"):
                tracer.start_span("inner").end()
        assert provider.force_flush()

    with tracer.start_as_current_span("open") as around:
        in_child(work)
        in_child(work)
    for _ in range(20):
        tracer.start_span("parent").end()
    provider.shutdown()
    with afterglow.open(tmp_path / "traces.db") as database:
        spans = list(database.spans())
        books = database.ledger()
    assert len(spans) == len({span.span_id for span in spans}) == 101
    children = [span for span in spans if span.name == "child"]
    assert len({span.pid for span in children}) == 2
    assert {span.parent_span_id for span in children} == {around.context.span_id}
    assert {span.trace_id for span in children} == {around.context.trace_id}
    assert (books["recorded"], books["written"], books["in_flight"]) == (101, 101, 0)


def test_a_tracer_that_is_asked_for_after_the_fork(tmp_path: Path) -> None:
    """gunicorn --preload: the provider is the master's, and so is the lock that it holds."""
    provider = TracerProvider(database=tmp_path / "traces.db")

    def work() -> None:
        provider.get_tracer("late").start_span("late").end()
        assert provider.force_flush()

    provider._lock.acquire()  # another thread of the master's is at it
    in_child(work)
    provider._lock.release()
    provider.shutdown()
    with afterglow.open(tmp_path / "traces.db") as database:
        assert [span.name for span in database.spans()] == ["late"]


def test_two_providers_are_one_tree_and_two_books(make_provided: Any) -> None:
    first, second = make_provided(), make_provided()
    with (
        first.tracer.start_as_current_span("outer") as outer,
        second.tracer.start_as_current_span("inner") as inner,
    ):
        assert inner.context.trace_id == outer.context.trace_id
    assert [s.name for s in first.stored()] == ["outer"]
    (stored,) = second.stored()
    assert stored.parent_span_id == outer.context.span_id


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_providers_leave_nothing_behind(tmp_path: Path) -> None:
    def once() -> weakref.ref[Any]:
        provider = TracerProvider(database=tmp_path / "traces.db")
        with provider.get_tracer("t").start_as_current_span("s"):
            pass
        provider.shutdown()
        return weakref.ref(provider)

    once()
    threads, files = threading.active_count(), _open_files()
    references = [once() for _ in range(50)]
    gc.collect()
    assert [reference() for reference in references if reference() is not None] == []
    assert not _providers & {reference() for reference in references}
    assert (threading.active_count(), _open_files()) == (threads, files)


def test_a_shared_recorder_is_its_owners_to_close(tmp_path: Path) -> None:
    with afterglow.Tracer(tmp_path / "traces.db") as native:
        provider = TracerProvider(database=native)
        with provider.get_tracer("t").start_as_current_span("api"), native.span("native"):
            pass
        provider.shutdown()
        with native.span("after"):
            pass
        assert native.ledger()["dropped"] == {}
    with afterglow.open(tmp_path / "traces.db") as database:
        spans = {span.name: span for span in database.spans()}
    assert spans["native"].parent_span_id == spans["api"].span_id
    assert spans["after"].parent_span_id == 0


def test_without_a_shared_recorder_only_ours_look(provided: Provided, tmp_path: Path) -> None:
    """A tracer that nobody joined stays as fast as it was, and so does not see these spans."""
    with (
        afterglow.Tracer(tmp_path / "native.db") as native,
        provided.tracer.start_as_current_span("api"),
        native.span("native") as span,
    ):
        assert span.parent_id == 0
