"""The entries that are measured: about 1.1 KB of JSON and five links each, the same every time."""

from __future__ import annotations

import random
from collections.abc import Iterator

from afterglow.keep.backend import Pair
from afterglow.keep.entry import Record
from afterglow.keep.profile import MEMORY

__all__ = ["NOW_NS", "body", "content", "id_of", "kind_of", "record_of"]

NOW_NS = 1_800_000_000_000_000_000
_KINDS = ("semantic", "episodic", "sensory")
_PORTION = 1_000
_TEXT = "the quick brown fox jumps over a lazy dog while it rains in Zürich and trams go by"
_WORDS = _TEXT.split(" ")
_random = random.Random(7)
_BODIES = [" ".join(_random.choices(_WORDS, k=210)) for _ in range(64)]


def id_of(number: int) -> str:
    """36 characters that look random in any order of numbers, as UUIDs do."""
    mixed = number * 0x9E37_79B9_7F4A_7C15 % (1 << 64)
    return f"{mixed >> 32:08x}-{mixed >> 16 & 0xFFFF:04x}-{mixed & 0xFFFF:04x}-0000-{number:012x}"


def kind_of(number: int) -> str:
    return _KINDS[number % len(_KINDS)]


def body(number: int, version: int = 0) -> dict[str, object]:
    """A payload; another version of it differs."""
    return {"n": number, "version": version, "text": _BODIES[number % len(_BODIES)]}


def text_of(number: int, version: int = 0) -> str:
    """The same as JSON text."""
    return f'{{"n":{number},"version":{version},"text":"{_BODIES[number % len(_BODIES)]}"}}'


def record_of(number: int, version: int = 0) -> Record:
    kind = kind_of(number)
    rules = MEMORY.kinds[kind]
    return Record(
        trace_id=id_of(number),
        kind=kind,
        curve=rules.curve,
        decay_rate=rules.decay_rate,
        anchor=rules.start,
        anchor_tick=0,
        peak_strength=rules.start,
        valence=0.0,
        intensity=0.5,
        confidence=0.5,
        tags=("bench", f"group{number % 1000}"),
        origin="direct_experience",
        source_id=None,
        created_at=NOW_NS + number,
        last_reinforced=NOW_NS + number,
        reinforcement_count=0,
        parent_id=None,
        unresolved=False,
        consolidation_candidate=False,
        embedding=None,
        payload=text_of(number, version),
    )


def content(size: int) -> Iterator[list[Record] | list[Pair]]:
    """Everything, in portions, as a back end takes it. `size` is even."""
    for start in range(0, size, _PORTION):
        yield [record_of(n) for n in range(start, min(size, start + _PORTION))]
    portion: list[Pair] = []
    for a, b in _pairs(size):
        first, second = sorted((id_of(a), id_of(b)))
        portion.append(Pair(first, second, 3, True))
        if len(portion) == _PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _pairs(size: int) -> Iterator[tuple[int, int]]:
    for number in range(size):
        yield number, (number + 1) % size
        yield number, (number + 7) % size
        if number < size // 2:
            yield number, number + size // 2
