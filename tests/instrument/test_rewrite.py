"""Instrumented code records its calls, and does what it did."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from typing import Any

import pytest

from afterglow.record.context import current
from tests.instrument.conftest import Load

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
