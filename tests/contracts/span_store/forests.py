"""Random traces of several services, and random ways to deliver them."""

from __future__ import annotations

from hypothesis import strategies as st

from afterglow.model.segment import BufferedSpan, SegmentPart
from tests.sink.payloads import buffered, part_with

SERVICES = ("shop", "mail", "stock")
REMOTE = 0x300
LOCAL = 0x100


@st.composite
def traces(draw: st.DrawFn) -> list[list[BufferedSpan]]:
    """Traces in which a parent begins before its children; some parents never come."""
    return [
        _trace(draw, number, draw(st.integers(1, 9)))
        for number in range(1, draw(st.integers(1, 4)) + 1)
    ]


def _trace(draw: st.DrawFn, trace: int, size: int) -> list[BufferedSpan]:
    spans = []
    services: dict[int, str] = {}
    for number in range(1, size + 1):
        # 0 is no parent, 99 one that never comes.
        parent = draw(st.sampled_from([0, 99, *range(1, number)]) if number > 1 else st.just(0))
        service = services.get(parent, SERVICES[0])
        remote = parent and draw(st.sampled_from([False, False, True]))
        if remote or parent in (0, 99):
            # Another process: never the parent's own.
            service = draw(st.sampled_from([s for s in SERVICES if s != service]))
        services[number] = service
        start = draw(st.integers(0, 40))
        spans.append(
            buffered(
                number,
                parent,
                trace=trace,
                start=start,
                end=start + draw(st.integers(0, 40)),
                name=draw(st.sampled_from(["GET /", "query", "render"])),
                service=service,
                project=draw(st.just("default")),
                kind=2 if remote else 1,
                flags=REMOTE if remote else LOCAL,
                status={"code": draw(st.sampled_from([0, 0, 2]))},
                attributes={"n": number},
            )
        )
    return spans


@st.composite
def deliveries(draw: st.DrawFn, forest: list[list[BufferedSpan]]) -> list[list[SegmentPart]]:
    """Pages that bring all of it: split anywhere, in any order, parts of it twice."""
    parts = []
    for spans in forest:
        mixed = draw(st.permutations(spans))
        while mixed:
            size = draw(st.integers(1, len(mixed)))
            parts.append(part_with(mixed[:size]))
            mixed = mixed[size:]
    parts += draw(st.lists(st.sampled_from(parts), max_size=3))
    mixed_parts = draw(st.permutations(parts))
    pages = []
    while mixed_parts:
        size = draw(st.integers(1, len(mixed_parts)))
        pages.append(list(mixed_parts[:size]))
        mixed_parts = mixed_parts[size:]
    return pages
