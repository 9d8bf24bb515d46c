"""When calls become counts, and that no count is lost."""

from __future__ import annotations

import sys

from afterglow.config import RunConfig
from afterglow.instrument.site import Rule
from tests.instrument.conftest import Load

# --- counts -----------------------------------------------------------------------------------


def test_short_functions_called_often_become_counts(load: Load) -> None:
    loaded = load(
        "def short(x): return x\n"
        "def with_inner(x):\n"
        "    def inner(): return x\n"
        "    return inner()\n"
        "def all():\n"
        "    key = lambda x: -x\n"
        "    for i in range(3000): short(i); with_inner(i); key(i); (lambda: lambda: 1)()\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
    )
    loaded.all()
    assert loaded.fib(20) == 6765
    recorded: dict[str, int] = {}
    for span in loaded.spans():
        recorded[span.name] = recorded.get(span.name, 0) + 1
    counts = loaded.spans_made.counts()
    calls = {name: recorded[name] + counts.get(name, 0) for name in recorded}
    assert calls == {
        "m.short": 3000,
        "m.with_inner": 3000,
        "m.with_inner.<locals>.inner": 3000,
        "m.all.<locals>.<lambda>": 6000,
        "m.all": 1,
        "m.fib": 21891,
    }
    assert max(recorded.values()) <= 2 * 1_000 + 100
    assert "m.all" not in counts


def test_no_collapse_records_every_call(load: Load) -> None:
    loaded = load("def short(): pass\n", collapse=False)
    for _ in range(5_000):
        loaded.short()
    assert len(loaded.spans()) == 5_000
    assert loaded.spans_made.counts() == {}


def test_counts_lose_nothing_beside_threads(load: Load) -> None:
    import threading

    loaded = load("def short(): pass\ndef many():\n    for i in range(20_000): short()\n")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=loaded.many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    recorded = sum(span.name == "m.short" for span in loaded.spans())
    assert recorded + loaded.spans_made.counts()["m.short"] == 8 * 20_000


def test_the_rule() -> None:
    rule = Rule(RunConfig(collapse_calls=1_000, collapse_below_us=20))
    us = 1_000
    assert rule.collapses(1_000, 10**9, 1_000, 19 * us * 1_000)
    assert not rule.collapses(1_000, 10**9, 1_000, 21 * us * 1_000)
    # A recursion: none has ended, but they follow each other too fast.
    assert rule.collapses(1_000, 1_000 * 3 * us, 0, 0)
    assert not rule.collapses(1_000, 1_000 * 5 * us, 0, 0)
