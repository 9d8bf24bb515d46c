"""Programs that tests run in processes of their own, to kill, starve or race them.

Run as `python -m tests.keep.sqlite.child NAME DATABASE ...`; each says on stdout, a line at a
time, what it was promised.
"""

from __future__ import annotations

import resource
import sys

import afterglow
from afterglow.errors import StoreError


def say(*words: object) -> None:
    print(*words, flush=True)


def flush_for_ever(database: str) -> None:
    """Says `stored N` when flush() has returned for entries up to N, and `deleted N`."""
    with afterglow.TraceStore(database, maintenance=False) as store:
        for number in range(1_000_000):
            for part in range(40):
                store.store(
                    {"number": number, "text": "x" * 500},
                    kind="semantic",
                    trace_id=f"{number}/{part}",
                    tags=["t"],
                )
            store.record_coactivation(f"{number}/0", f"{number}/1")
            if number:
                store.reinforce(f"{number - 1}/3")
                store.delete(f"{number - 1}/2")
            store.flush()
            say("flushed", number)


def write_beside_others(database: str, name: str, entries: str) -> None:
    """Stores entries of its own and uses one that all share."""
    with afterglow.TraceStore(database, maintenance=False) as store:
        store.store("shared", kind="semantic", trace_id="shared")
        for number in range(int(entries)):
            store.store(number, kind="semantic", trace_id=f"{name}/{number}")
            store.record_coactivation("shared", f"{name}/0")
            if number % 7 == 0:
                store.flush()
            if number % 50 == 0:
                store.decay_cycle(ticks=None)
    say("done")


def fill_a_small_disk(database: str, most_bytes: str) -> None:
    """Stores until files may not grow, then again when they may."""
    store = afterglow.TraceStore(database, maintenance=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))
    number = flushed = 0
    try:
        while True:
            for _ in range(100):
                store.store("x" * 1_000, kind="semantic", trace_id=str(number))
                number += 1
            store.flush()
            flushed = number
    except StoreError as error:
        say("error", error)
    say("flushed", flushed, "dirty", store.dirty, "count", store.count())
    say("errors", store.counters()["flush_errors"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.close()
    say("stored", number)


def leave_open(database: str) -> None:
    """Ends without close()."""
    store = afterglow.TraceStore(database)
    store.store(1, kind="semantic", trace_id="left")


def _leave_open_in_child(database: str) -> None:
    store = afterglow.TraceStore(database)
    store.store(2, kind="semantic", trace_id="child")


def multiprocess(database: str) -> None:
    """Leaves stores open, in the parent and in a child of multiprocessing."""
    import multiprocessing

    store = afterglow.TraceStore(database, maintenance=False)
    store.store(1, kind="semantic", trace_id="parent")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_leave_open_in_child, args=(database,))
    child.start()
    child.join()
    say(child.exitcode)


def fork(database: str) -> None:
    """What a child makes of its parent's store."""
    import os

    store = afterglow.TraceStore(database)
    store.store(1, kind="semantic", trace_id="parent")
    if os.fork() == 0:
        try:
            store.get("parent")
        except StoreError as error:
            say(error)
        store.close()
        with afterglow.TraceStore(database, maintenance=False) as own:
            own.store(2, kind="semantic", trace_id="child")
        os._exit(0)
    os.wait()
    store.close()
    with afterglow.TraceStore(database, maintenance=False) as again:
        say(again.count())


PROGRAMS = {
    program.__name__: program
    for program in (
        flush_for_ever,
        write_beside_others,
        fill_a_small_disk,
        leave_open,
        multiprocess,
        fork,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
