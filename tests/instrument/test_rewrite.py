"""Instrumented code records its calls, and does what it did."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afterglow.config import RunConfig
from afterglow.instrument.compiling import code_of_source
from afterglow.instrument.site import Rule, Spans
from afterglow.model.span import Span
from afterglow.record.context import current
from tests.conftest import Recording


class Loaded:
    """A module `m` with its functions instrumented; attributes are the module's names."""

    def __init__(self, recording: Recording, source: str, **settings: Any) -> None:
        self.recording = recording
        self.spans_made = Spans(recording.tracer, Rule(RunConfig(**settings)))
        make = self.spans_made
        code = code_of_source(source, "m.py", lambda k, q, p, n: make.site(k, f"m.{q}", p, n))
        self.names: dict[str, Any] = {"__name__": "m"}
        exec(code, self.names)

    def __getattr__(self, name: str) -> Any:
        return self.names[name]

    def spans(self) -> list[Span]:
        assert current.get() is None, "a span is left current"
        return self.recording.spans()

    def edges(self) -> list[tuple[str, str | None]]:
        """(name, parent's name), without the module, in the order of the ends."""
        spans = self.spans()
        names = {span.span_id: span.name[2:] for span in spans}
        return [(span.name[2:], names.get(span.parent_span_id)) for span in spans]


Load = Callable[..., Loaded]


@pytest.fixture
def load(recording: Recording) -> Iterator[Load]:
    yield lambda source, **settings: Loaded(recording, source, **settings)


@pytest.fixture(params=[False, True], ids=["recorded", "counted"])
def load_hot(request: pytest.FixtureRequest, recording: Recording) -> Load:
    """Code in both its states: what it does must be the same."""

    def load(source: str) -> Loaded:
        loaded = Loaded(recording, source)
        if request.param:
            for site in loaded.spans_made._sites:
                site.collapse()
        return loaded

    return load


# --- what is recorded -----------------------------------------------------------------------


def test_a_call_is_a_span_with_its_place(load: Load) -> None:
    loaded = load("def f(x):\n    'doc'\n    return g(x)\n\ndef g(x): return x\n")
    assert loaded.f(3) == 3
    assert loaded.edges() == [("g", "f"), ("f", None)]
    f = loaded.spans()[-1]
    assert f.attributes == {"code.file.path": "m.py", "code.line.number": 1}


def test_every_kind_of_function(load: Load) -> None:
    loaded = load(
        "class C:\n"
        "    def method(self): return [self.inner() for self.inner in [lambda: 1]]\n"
        "    @property\n"
        "    def prop(self): return 1\n"
        "    @staticmethod\n"
        "    def static(): pass\n"
        "async def coroutine(): return [x async for x in numbers()]\n"
        "async def numbers():\n"
        "    yield one()\n"
        "    yield 2\n"
        "def one(): return 1\n"
    )
    loaded.C().method()
    assert loaded.C().prop == 1
    loaded.C.static()
    assert asyncio.run(loaded.coroutine()) == [1, 2]
    assert loaded.edges() == [
        ("C.method.<locals>.<lambda>", "C.method"),
        ("C.method", None),
        ("C.prop", None),
        ("C.static", None),
        ("one", "numbers"),
        ("numbers", "coroutine"),
        ("coroutine", None),
    ]


def test_an_exception_marks_what_it_leaves(load: Load) -> None:
    loaded = load(
        "def f(): g()\n"
        "def g(): (lambda: {}['k'])()\n"
        "class I:\n"
        "    def __iter__(self): return self\n"
        "    def __next__(self): raise StopIteration\n"
    )
    with pytest.raises(KeyError):
        loaded.f()
    list(loaded.I())
    status = {span.name[2:]: span.status for span in loaded.spans()}
    assert status.pop("g.<locals>.<lambda>") == "error"
    assert status == {"f": "error", "g": "error", "I.__iter__": "unset", "I.__next__": "unset"}


def test_no_frame_of_ours_in_a_traceback(load: Load) -> None:
    loaded = load("def f():\n    for x in g(): pass\ndef g():\n    yield (lambda: 1 / 0)()\n")
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.f()
    seen = [(entry.name, entry.lineno + 1) for entry in caught.traceback[1:]]
    assert seen == [("f", 2), ("g", 4), ("<lambda>", 4)]


# --- generators -----------------------------------------------------------------------------

GENERATORS = """
def leaf(x): return x
def numbers(n):
    for i in range(n):
        got = yield leaf(i)
        if got: leaf(got)
    return "end"
def outer(n):
    result = yield from numbers(n)
    leaf(0)
    yield result
    yield from [1]
def careful():
    try:
        yield 1
    except ValueError:
        leaf("caught")
        yield 2
    finally:
        leaf("finally")
"""


def test_a_generator_is_current_only_while_it_runs(load: Load) -> None:
    loaded = load(GENERATORS)
    tracer = loaded.recording.tracer
    with tracer.span("m.consumer") as consumer:
        for _ in loaded.outer(2):
            assert tracer.current_span is consumer
            loaded.leaf("between")
    edges = loaded.edges()
    assert edges.count(("leaf", "consumer")) == 4
    assert edges.count(("leaf", "numbers")) == 2
    assert edges.count(("leaf", "outer")) == 1
    assert ("numbers", "outer") in edges
    assert ("outer", "consumer") in edges


def test_send_throw_and_close_find_the_generators_own_context(load: Load) -> None:
    loaded = load(GENERATORS)
    generator = loaded.numbers(3)
    next(generator)
    generator.send("sent")
    generator.close()
    careful = loaded.careful()
    next(careful)
    assert careful.throw(ValueError()) == 2
    assert current.get() is None
    careful.close()
    assert loaded.edges() == [
        ("leaf", "numbers"),
        ("leaf", "numbers"),
        ("leaf", "numbers"),
        ("numbers", None),
        ("leaf", "careful"),
        ("leaf", "careful"),
        ("careful", None),
    ]


def test_a_generator_that_is_dropped_ends(load: Load) -> None:
    loaded = load(GENERATORS)
    generator = loaded.careful()
    next(generator)
    del generator
    gc.collect()
    assert loaded.edges() == [("leaf", "careful"), ("careful", None)]


def test_two_generators_in_turn_do_not_mix(load: Load) -> None:
    loaded = load(GENERATORS)
    with loaded.recording.tracer.span("m.consumer"):
        assert list(zip(loaded.numbers(3), loaded.outer(2), strict=False)) == [
            (0, 0),
            (1, 1),
            (2, "end"),
        ]
    edges = loaded.edges()
    assert edges.count(("leaf", "numbers")) == 3 + 2
    assert ("leaf", "consumer") not in edges
    del edges


def test_an_async_generator_closed_by_another_task(load: Load) -> None:
    loaded = load(
        "def leaf(): pass\n"
        "async def numbers():\n"
        "    try:\n"
        "        yield 1\n"
        "    finally:\n"
        "        leaf()\n"
    )

    async def main() -> None:
        numbers = loaded.numbers()
        await anext(numbers)
        assert current.get() is None
        await asyncio.create_task(numbers.aclose())

    asyncio.run(main())
    assert loaded.edges() == [("leaf", "numbers"), ("numbers", None)]


def test_long_generators_become_light(load: Load) -> None:
    loaded = load(GENERATORS, collapse_calls=100)
    assert sum(loaded.numbers(5_000)) == sum(range(5_000))
    names = [name for name, _ in loaded.edges()]
    assert names.count("numbers") == 1, "the generator itself is recorded"
    assert loaded.names["numbers"].__code__.co_consts
    (site,) = (s for s in loaded.spans_made._sites if s.name == "m.numbers")
    assert site.light
    assert not site.hot


# --- what a program can tell ------------------------------------------------------------------


def test_names_and_scopes_are_what_they_were(load_hot: Load) -> None:
    loaded = load_hot(
        "from __future__ import annotations\n"
        "COUNT = 0\n"
        "def raises_count(by: NoSuchName = 1):\n"
        "    global COUNT\n"
        "    COUNT += by\n"
        "    return COUNT\n"
        "def counter():\n"
        "    n = 0\n"
        "    def add():\n"
        "        nonlocal n\n"
        "        n += 1\n"
        "        return n\n"
        "    return add\n"
        "class Base:\n"
        "    def who(self): return 'base'\n"
        "class Kind(Base):\n"
        "    'documented'\n"
        "    __secret = 5\n"
        "    def who(self): return super().who() + __class__.__name__\n"
        "    def secret(self): return self.__secret\n"
        "def documented():\n"
        "    'only this'\n"
        "def late(x, *, y=2, **rest):\n"
        "    'more'\n"
        "    z = x\n"
        "    return locals()\n"
        "def own_locals():\n"
        "    a = 1\n"
        "    yield locals()\n"
        "key = lambda x, y=1: (x, y)\n"
        "nested = lambda x: (lambda y: x + y)\n"
    )
    assert [loaded.raises_count() for _ in range(3)] == [1, 2, 3]
    add = loaded.counter()
    assert [add(), add()] == [1, 2]
    assert loaded.Kind().who() == "baseKind"
    assert loaded.Kind().secret() == 5
    assert (loaded.Kind.__doc__, loaded.documented.__doc__) == ("documented", "only this")
    assert loaded.documented() is None
    assert loaded.late(1, w=3) == {"x": 1, "y": 2, "rest": {"w": 3}, "z": 1}
    assert str(inspect.signature(loaded.late)) == "(x, *, y=2, **rest)"
    assert list(next(loaded.own_locals())) == ["a"]
    assert loaded.key(1) == (1, 1)
    assert loaded.nested(1)(2) == 3


def test_kinds_of_functions_stay_what_they_were(load_hot: Load) -> None:
    loaded = load_hot(
        "async def coroutine(): return 1\n"
        "def generator(n): return (yield from range(n)) or (yield n)\n"
        "async def async_generator():\n    got = yield 1\n    yield got\n"
        "import contextlib\n"
        "@contextlib.contextmanager\n"
        "def manager():\n    yield 5\n"
    )
    assert inspect.iscoroutinefunction(loaded.coroutine)
    assert inspect.isgeneratorfunction(loaded.generator)
    assert inspect.isasyncgenfunction(loaded.async_generator)
    assert list(loaded.generator(2)) == [0, 1, 2]
    with loaded.manager() as value:
        assert value == 5
    with pytest.raises(KeyError), loaded.manager():
        raise KeyError

    async def main() -> list[Any]:
        generator = loaded.async_generator()
        return [await loaded.coroutine(), await anext(generator), await generator.asend("sent")]

    assert asyncio.run(main()) == [1, 1, "sent"]


def test_the_recursion_limit_is_borne(load: Load) -> None:
    loaded = load("def f(n): return f(n + 1)\n", collapse=False)
    with pytest.raises(RecursionError) as caught:
        loaded.f(0)
    assert {entry.name for entry in caught.traceback[1:]} == {"f"}
    with contextlib.suppress(RecursionError):
        loaded.f(0)
    assert current.get() is None
    assert loaded.recording.tracer._core.registry == {}
    assert {name for name, _ in loaded.edges()} == {"f"}


def test_code_that_is_sent_elsewhere_counts_there(load: Load) -> None:
    import pickle

    loaded = load("def f(x): return x\n")
    (site,) = (c for c in loaded.f.__code__.co_consts if type(c).__name__ == "Site")
    copy = pickle.loads(pickle.dumps(site))
    assert copy.hot
    assert copy.name == "m.f"


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
