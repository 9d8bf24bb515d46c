"""The short way says what the long way says, or nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from afterglow.assembly import Entry, plan, plan_whole
from afterglow.config import BufferConfig

S = 10**9
TRACE = ("shop", b"t" * 16)
CONFIG = BufferConfig(max_segment_bytes=1_024)

SPAN = st.tuples(
    st.integers(1, 12),
    st.integers(0, 12),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.sampled_from([0, 10, 10, 400]),
)


def entry(spans: list[tuple[int, int, int, int]], time_ns: int) -> Entry:
    ids, parents, flags, sizes = zip(*spans, strict=True)
    return Entry(
        time_ns,
        b"".join(n.to_bytes(8, "big") for n in ids),
        b"".join(n.to_bytes(8, "big") for n in parents),
        bytes(flags),
        sizes,
    )


def tree_spans(n_spans: int, rng: random.Random) -> list[tuple[int, int, int, int]]:
    spans = [(n, rng.randrange(1, n) if n > 1 else 0, 0, 10) for n in range(1, n_spans + 1)]
    rng.shuffle(spans)
    return spans


@given(
    st.lists(st.tuples(st.lists(SPAN, min_size=1, max_size=6), st.integers(0, 700)), min_size=1),
    st.integers(0, 800),
)
def test_of_any_spans_it_says_the_same_or_nothing(
    batches: list[tuple[list[tuple[int, int, int, int]], int]], now_s: int
) -> None:
    entries = [entry(spans, time_s * S) for spans, time_s in batches]
    found = plan_whole(TRACE, entries, now_s * S, CONFIG)
    assert found is None or found == plan(TRACE, entries, now_s * S, CONFIG, {})


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 1_000))
def test_of_a_plain_tree_it_says_the_same(n_spans: int, size: int, seed: int) -> None:
    spans = tree_spans(n_spans, random.Random(seed))
    entries = [entry(spans[at : at + size], at * S // 100) for at in range(0, n_spans, size)]
    due_ns = entries[-1].time_ns + 10 * S
    assert plan_whole(TRACE, entries, due_ns - 1, CONFIG) is None
    found = plan_whole(TRACE, entries, due_ns, CONFIG)
    assert found == plan(TRACE, entries, due_ns, CONFIG, {})


def test_what_has_been_open_for_long_is_due_while_more_comes() -> None:
    entries = [entry([(1, 0, 0, 10)], 0), entry([(2, 1, 0, 10)], 595 * S)]
    assert plan_whole(TRACE, entries, 600 * S - 1, CONFIG) is None
    assert plan_whole(TRACE, entries, 600 * S, CONFIG) == plan(TRACE, entries, 600 * S, CONFIG, {})


def test_what_it_leaves_to_the_tree() -> None:
    spans = [(1, 0, 0, 10), (2, 1, 0, 10), (3, 2, 0, 10)]

    def says(*changed: tuple[int, int, int, int]) -> bool:
        mine = {one[0]: one for one in [*spans, *changed]}
        return plan_whole(TRACE, [entry(list(mine.values()), 0)], 99 * S, CONFIG) is not None

    assert says()
    assert not says((4, 0, 0, 10)), "two roots"
    assert not says((3, 9, 0, 10)), "an orphan"
    assert not says((3, 3, 0, 10)), "its own parent"
    assert not says((2, 3, 0, 10)), "a ring beside the root"
    assert not says((3, 2, 1, 10)), "a marked root"
    assert not says((3, 2, 0, 2_000)), "more than a part"
    assert plan_whole(TRACE, [entry(spans, 0)] * 2, 99 * S, CONFIG) is None, "repeats"
    left = entry(spans, 0)._replace(left=(0, 1, 2))
    assert plan_whole(TRACE, [left], 99 * S, CONFIG) is None, "what went out in part"
