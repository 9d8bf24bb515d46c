"""Programs that do little but call: what `afterglow run` finds hardest.

    python benchmarks/call_heavy.py NAME

runs one of them and prints the seconds that it took, without the interpreter's start.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import Any

# --- recursion ----------------------------------------------------------------------------


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def recursion() -> None:
    fib(27)


def is_even(n: int) -> bool:
    return True if n == 0 else is_odd(n - 1)


def is_odd(n: int) -> bool:
    return False if n == 0 else is_even(n - 1)


def deep_recursion() -> None:
    for _ in range(2_000):
        is_even(400)


# --- small methods ------------------------------------------------------------------------


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.x = x
        self.y = y

    @property
    def length_squared(self) -> float:
        return self.x * self.x + self.y * self.y

    def plus(self, other: Vector) -> Vector:
        return Vector(self.x + other.x, self.y + other.y)

    def times(self, factor: float) -> Vector:
        return Vector(self.x * factor, self.y * factor)


def small_methods() -> None:
    position, step = Vector(0.0, 0.0), Vector(0.5, 0.25)
    for _ in range(120_000):
        position = position.plus(step).times(0.999)
        if position.length_squared < 0.0:
            break


# --- records, strings and globals, after the manner of Dhrystone ---------------------------


class Record:
    def __init__(self) -> None:
        self.next: Record | None = None
        self.kind = 0
        self.number = 0
        self.text = ""

    def copy(self) -> Record:
        copied = Record()
        copied.next, copied.kind = self.next, self.kind
        copied.number, copied.text = self.number, self.text
        return copied


CALLS = 0


def first_of(left: str, right: str) -> int:
    return 0 if left == right else 1


def later_of(left: str, right: str) -> bool:
    index = 1
    while index < 2:
        if first_of(left[index], right[index + 1]) == 0:
            return False
        index += 1
    return left > right


def change(record: Record, glob: int) -> Record:
    global CALLS  # noqa: PLW0603  the program it is modelled on does
    CALLS += 1
    following = record.copy()
    following.kind = 5
    following.number = added(record.number, glob)
    following.next = record
    if later_of("DHRYSTONE 1", "DHRYSTONE 2"):
        following.text = record.text
    return following


def added(left: int, right: int) -> int:
    return left + right + 2


def records() -> None:
    record = Record()
    for index in range(50_000):
        record = change(record, index)
        record.next = None


# --- an encoder in pure Python --------------------------------------------------------------


def encoded(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from encoded_dict(value)
    elif isinstance(value, list):
        yield from encoded_list(value)
    elif isinstance(value, str):
        yield quoted(value)
    else:
        yield str(value)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def encoded_dict(value: dict[str, Any]) -> Iterator[str]:
    yield "{"
    for key, item in value.items():
        yield quoted(key)
        yield ":"
        yield from encoded(item)
        yield ","
    yield "}"


def encoded_list(value: list[Any]) -> Iterator[str]:
    yield "["
    for item in value:
        yield from encoded(item)
        yield ","
    yield "]"


def encoder() -> None:
    document = {"names": ["a", "b", "c"], "more": {"x": 1, "y": [1, 2, 3]}, "flag": True}
    whole = {"documents": [document] * 50}
    for _ in range(60):
        "".join(encoded(whole))


# --- generators -----------------------------------------------------------------------------


def numbers(limit: int) -> Iterator[int]:
    for number in range(limit):  # noqa: UP028  the yield is the point
        yield number


def squares(source: Iterator[int]) -> Iterator[int]:
    for number in source:
        yield number * number


def odd(source: Iterator[int]) -> Iterator[int]:
    for number in source:
        if number % 2:
            yield number


def generators() -> None:
    for _ in range(3):
        sum(odd(squares(numbers(300_000))))
    for _ in range(20_000):
        sum(squares(numbers(10)))


class Tree:
    def __init__(self, depth: int) -> None:
        self.left = Tree(depth - 1) if depth else None
        self.right = Tree(depth - 1) if depth else None

    def __iter__(self) -> Iterator[Tree]:
        if self.left is not None:
            yield from self.left
        yield self
        if self.right is not None:
            yield from self.right


def tree_walk() -> None:
    tree = Tree(13)
    for _ in range(6):
        sum(1 for _ in tree)


# --- lambdas and closures ---------------------------------------------------------------------


def adder(amount: int) -> Callable[[int], int]:
    def add(number: int) -> int:
        return number + amount

    return add


def lambdas() -> None:
    items = list(range(60_000))
    for _ in range(6):
        items.sort(key=lambda item: -item)
        list(map(lambda item: item + 1, items))  # noqa: C417  the lambda is the point
    for number in range(100_000):
        adder(number)(1)


# --- asyncio ------------------------------------------------------------------------------------


async def small(number: int) -> int:
    return number + 1


async def ticks(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        yield number


async def worker(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += await small(number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    async for number in ticks(rounds):
        total += number
    return total


async def many() -> None:
    await asyncio.gather(*(worker(1_000) for _ in range(300)))


def coroutines() -> None:
    asyncio.run(many())


# --- exceptions ---------------------------------------------------------------------------------


def wanted(table: dict[int, int], key: int) -> int:
    if key not in table:
        raise KeyError(key)
    return table[key]


def exceptions() -> None:
    table = dict.fromkeys(range(0, 300_000, 2), 1)
    for key in range(300_000):
        try:  # noqa: SIM105  the handler is the point
            wanted(table, key)
        except KeyError:
            pass


PROGRAMS: dict[str, Callable[[], None]] = {
    "recursion": recursion,
    "deep recursion": deep_recursion,
    "small methods": small_methods,
    "records": records,
    "encoder": encoder,
    "generators": generators,
    "tree walk": tree_walk,
    "lambdas": lambdas,
    "coroutines": coroutines,
    "exceptions": exceptions,
}


if __name__ == "__main__":
    started = perf_counter()
    PROGRAMS[sys.argv[1]]()
    print(perf_counter() - started)
