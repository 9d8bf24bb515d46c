"""What a page adds to its traces, to the books, and to what is usual for a name: pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from afterglow.analyse.histogram import encode_histogram
from afterglow.analyse.statistics import buckets
from afterglow.store.postgres.lines import NewSpan
from afterglow.store.postgres.text import kept

__all__ = ["TraceSum", "book_rows", "new_links", "new_roots", "trace_sums"]

#: (project id, trace id)
TraceKey = tuple[int, str]


class TraceSum:
    """What a page says of one trace. Of roots the true one counts, then a local one, then any
    span; of two alike the one that began first, so that the order of pages does not matter."""

    __slots__ = ("best", "bytes", "end_ns", "errors", "root", "spans", "start_ns")

    def __init__(self, span: NewSpan) -> None:
        self.start_ns, self.end_ns = span.start_ns, span.end_ns
        self.spans = self.errors = self.bytes = 0
        self.root = rank(span)
        self.best = span

    def add(self, span: NewSpan) -> None:
        self.start_ns = min(self.start_ns, span.start_ns)
        self.end_ns = max(self.end_ns, span.end_ns)
        self.spans += 1
        self.errors += span.failed
        self.bytes += span.bytes
        root = rank(span)
        if (-root, span.start_ns, span.key[2]) < (
            -self.root,
            self.best.start_ns,
            self.best.key[2],
        ):
            self.root, self.best = root, span

    def columns(self) -> tuple[Any, ...]:
        """As the table has them, from service to bytes."""
        best, root = self.best, self.root
        return (
            kept(best.service) if root else "", kept(best.name), self.start_ns, self.end_ns,
            best.end_ns - best.start_ns if root else None, best.status if root else "unset", root,
            best.start_ns, bytes.fromhex(best.key[2]), self.spans, self.errors, self.bytes,
        )  # fmt: skip


def rank(span: NewSpan) -> int:
    """As in the SQLite file: 2 a local root, 4 a true one, both ended."""
    if not span.is_local_root:
        return 0
    return 4 if span.parent is None else 2


def trace_sums(spans: Iterable[NewSpan]) -> dict[TraceKey, TraceSum]:
    """What spans come to by trace."""
    found: dict[TraceKey, TraceSum] = {}
    for span in spans:
        key = span.key[:2]
        found_sum = found.get(key)
        if found_sum is None:
            found_sum = found[key] = TraceSum(span)
        found_sum.add(span)
    return found


def book_rows(counter: str, spans: Iterable[NewSpan]) -> list[tuple[Any, ...]]:
    """Rows of `book`: one a process."""
    sums: dict[tuple[int, int], list[int]] = {}
    for span in spans:
        key = span.key[0], span.process_id
        row = sums.get(key)
        if row is None:
            row = sums[key] = [0, 0, span.start_ns, span.end_ns]
        row[0] += 1
        row[1] += span.failed
        row[2] = min(row[2], span.start_ns)
        row[3] = max(row[3], span.end_ns)
    return [(*key, counter, "", *row) for key, row in sorted(sums.items())]


def new_roots(spans: Iterable[NewSpan]) -> list[tuple[Any, ...]]:
    """Rows of `new_roots`: how long the local roots of a name took."""
    groups: defaultdict[tuple[int, str, str], list[NewSpan]] = defaultdict(list)
    for span in spans:
        if span.is_local_root:
            groups[span.key[0], span.service, span.name].append(span)
    return [
        (
            project,
            kept(service),
            kept(name),
            sum(span.failed for span in group),
            max(span.end_ns for span in group),
            encode_histogram(Counter(buckets([span.end_ns - span.start_ns for span in group]))),
        )
        for (project, service, name), group in groups.items()
    ]


def new_links(spans: Iterable[NewSpan]) -> list[tuple[int, bytes, bytes]]:
    """Rows of `new_link`: from one trace to another."""
    found = {
        (span.key[0], span.key[1], target)
        for span in spans
        for target in span.links
        if target != span.key[1]
    }
    return [(p, bytes.fromhex(a), bytes.fromhex(b)) for p, a, b in sorted(found)]
