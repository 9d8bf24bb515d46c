"""Which lines a trace gets: alike ones folded, the longest first, each cut said in numbers."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from afterglow.analyse.trees import build_trees
from afterglow.model.span import Span
from afterglow.model.tree import SpanNode
from afterglow.ui.boughs import SAMPLE, Bough, fold, plan
from afterglow.ui.screen import Screen
from afterglow.ui.tree import print_trace

START = 1_700_000_000_000_000_000


class Trace:
    """Spans of one trace, each beginning where the last one began, and 10 ns later."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def add(self, name: str, ns: int | None, parent: Span | None = None, **more: Any) -> Span:
        start = START + 10 * len(self.spans)
        self.spans.append(
            Span(
                trace_id=1,
                span_id=len(self.spans) + 1,
                parent_span_id=parent.span_id if parent else 0,
                name=name,
                start_ns=start,
                end_ns=None if ns is None else start + ns,
                **more,
            )
        )
        return self.spans[-1]

    def root(self) -> SpanNode:
        (root,) = build_trees(self.spans)
        return root

    def drawn(self, *, width: int | None = None, lines: int = 40, depth: int = 16) -> list[str]:
        file = io.StringIO()
        screen = Screen(console=Console(file=file, width=width or 80))
        screen.width = width
        print_trace(screen, self.root(), lines=lines, depth=depth)
        return file.getvalue().splitlines()


def names(boughs: Sequence[Bough]) -> list[tuple[str, int]]:
    return [(bough.span.name, bough.count) for bough in boughs]


def test_a_small_tree_is_shown_whole_and_in_order() -> None:
    trace = Trace()
    main = trace.add("main", 10_000_000)
    load = trace.add("load", 4_000_000, main, attributes={"path": "a b.toml", "n": 3})
    trace.add("parse", 1_500_000, load)
    trace.add("save", 2_000_000, main, status="error", status_description="OSError: full")
    trace.add("wait", None, main)
    drawn = trace.drawn()
    assert drawn[2:] == [
        " 10.0 ms   6.00 ms  ███    main",
        ' 4.00 ms   2.50 ms  █▎     ├ load  path="a b.toml"  n=3',
        " 1.50 ms   1.50 ms  ▊      │ └ parse",
        " 2.00 ms   2.00 ms  █      ├ ✗ save  OSError: full",
        "  no end         -         └ wait  interrupted",
    ]


def test_runs_of_alike_siblings_become_one_line_with_their_sums() -> None:
    trace = Trace()
    main = trace.add("main", 100_000)
    for i in range(5):
        step = trace.add("step", 1_000, main, attributes={"i": i, "kind": "x"})
        trace.add("inner", 400, step)
    trace.add("step", 1_000, main, status="error")
    trace.add("step", 1_000, main)
    trace.add("step", 1_000, main)
    top = plan(trace.root(), lines=40, depth=16)
    # An error is not like its siblings; two alike are too few for a fold.
    assert names(top.children) == [("step", 5), ("step", 1), ("step", 1), ("step", 1)]
    first = top.children[0]
    assert (first.total_ns, first.self_ns) == (5_000, 3_000)
    assert first.attributes == {"kind": "x"}
    assert names(first.children) == [("inner", 5)]
    assert any("step x5  kind=x" in line for line in trace.drawn())


def test_many_siblings_in_turn_are_folded_by_name() -> None:
    trace = Trace()
    main = trace.add("main", 1_000_000)
    for _ in range(50):
        trace.add("read", 100, main)
        trace.add("write", 200, main)
    trace.add("end", 5, main)
    assert names(fold(trace.root().children)) == [("read", 50), ("write", 50), ("end", 1)]


def test_a_recursion_that_only_goes_deeper_is_one_line() -> None:
    trace = Trace()
    span = trace.add("main", 1_000_000)
    for level in range(5_000):
        span = trace.add("down", 900_000 - level * 100, span)
    trace.add("bottom", 50, span)
    drawn = trace.drawn()
    assert len(drawn) == 5
    assert drawn[3].endswith("└ down 5,000 levels deep")
    assert drawn[4].endswith("  └ bottom")


def test_wide_trees_are_cut_and_say_what_they_hide() -> None:
    trace = Trace()
    main = trace.add("main", 10_000_000)
    for i in range(100):
        failed = {"status": "error"} if i < 3 else {}
        trace.add(f"step{i}", 1_000 * (i + 1), main, **failed)
    top = plan(trace.root(), lines=11, depth=16)
    assert names(top.children) == [(f"step{i}", 1) for i in range(90, 100)]
    rest = top.rest
    assert rest is not None and rest.count == 90
    assert rest.total_ns == sum(1_000 * (i + 1) for i in range(90))
    assert rest.errors == 3
    assert trace.drawn(lines=11)[-1].endswith("└ … 90 more, 3 errors among them")


def test_deep_trees_are_cut_at_the_depth_asked_for() -> None:
    trace = Trace()
    span = trace.add("level0", 1_000_000)
    for level in range(1, 50):
        span = trace.add(f"level{level}", 1_000_000 - level, span)
    drawn = trace.drawn(depth=3)
    assert [line.split()[-1] for line in drawn[2:5]] == ["level0", "level1", "level2"]
    assert drawn[5].endswith("└ level3  … 1 below")
    assert len(drawn) == 6


def test_what_is_hidden_and_hardly_counts_takes_no_line() -> None:
    trace = Trace()
    main = trace.add("main", 10_000_000)
    trace.add("all of it", 9_900_000, main)
    for i in range(30):
        trace.add(f"tiny{i}", 10, main)
    drawn = trace.drawn(lines=2)
    assert [line.split("  ")[-1].strip() for line in drawn[2:]] == ["… 30 more", "└ all of it"]


def test_the_longest_gets_the_lines_however_deep_it_is() -> None:
    trace = Trace()
    main = trace.add("main", 10_000_000)
    for i in range(30):
        trace.add(f"short{i}", 10, main)
    span = trace.add("long", 9_000_000, main)
    for i in range(6):
        span = trace.add(f"long{i}", 8_000_000 - i, span)
    drawn = "\n".join(trace.drawn(lines=9))
    assert "long5" in drawn


def test_interrupted_spans_are_shown_before_all_others() -> None:
    trace = Trace()
    main = trace.add("main", None)
    for i in range(30):
        trace.add(f"done{i}", 1_000_000, main)
    going = trace.add("going on", None, main)
    trace.add("inner", None, going)
    drawn = "\n".join(trace.drawn(lines=4))
    assert "going on  interrupted" in drawn and "inner  interrupted" in drawn


def test_where_a_span_ran_is_said_where_that_changes() -> None:
    trace = Trace()
    main = trace.add("main", 1_000, pid=1, thread_id=1, thread_name="MainThread")
    job = trace.add("job", 500, main, pid=1, thread_id=2, thread_name="worker-1")
    trace.add("inner", 400, job, pid=1, thread_id=2, thread_name="worker-1", task_name="Task-7")
    trace.add("child", 300, main, pid=2, thread_id=1, thread_name="MainThread")
    drawn = trace.drawn()
    assert drawn[3].endswith("├ job  on worker-1")
    assert drawn[4].endswith("└ inner  in Task-7")
    assert drawn[5].endswith("└ child  pid 2")


def test_every_line_fits_the_screen() -> None:
    trace = Trace()
    span = trace.add("main" * 40, 10_000_000, attributes={"a": "x" * 200, "日本": "語" * 80})
    for i in range(12):
        span = trace.add(f"package.module{i}:Class.method" * 3, 9_000_000 - i, span)
    for width in (66, 80, 120):
        assert all(cell_len(line) <= width for line in trace.drawn(width=width)[2:])


def test_names_cannot_drive_the_terminal() -> None:
    trace = Trace()
    trace.add("evil\x1b[2J\n", 10, attributes={"k\x1b": "v\r"})
    assert not any("\x1b" in line or "\r" in line for line in trace.drawn())


class Lazy(Sequence[SpanNode]):
    """Children that are made when looked at, as those of a file are."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: Any) -> Any:
        raise AssertionError("each would be a look into the file")

    def __iter__(self) -> Iterator[SpanNode]:
        for i in range(self._length):
            span = Span(
                trace_id=1, span_id=i + 2, parent_span_id=1, name=f"step{i % 3}",
                start_ns=START + i, end_ns=START + i + 5,
            )  # fmt: skip
            yield SpanNode(span, (), 5)


def test_what_is_known_of_a_sample_only_says_so() -> None:
    trace = Trace()
    main = trace.add("main", 10_000_000)
    for _ in range(SAMPLE + 500):
        step = trace.add("step", 1_000, main)
        trace.add("inner", 400, step)
    drawn = trace.drawn()
    assert drawn[3].endswith(f"└ step x{SAMPLE + 500:,}")
    assert drawn[4].endswith(f"  └ inner x{SAMPLE:,}+")
    assert drawn[5].startswith("+ at least")


def test_siblings_are_never_all_held_at_once() -> None:
    span = Span(trace_id=1, span_id=1, name="main", start_ns=START, end_ns=START + 10**9)
    root = SpanNode(span, Lazy(60_000), 10**8)
    tracemalloc.start()
    try:
        top = plan(root, lines=40, depth=16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert names(top.children) == [(f"step{i}", 20_000) for i in range(3)]
    assert peak < 8_000_000  # all of them take over 30 MB
