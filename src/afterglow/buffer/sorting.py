"""A batch of spans, by trace: the one loop that `add` has over spans. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from afterglow.assembly import NO_SPAN, subsegments
from afterglow.config.buffer import BufferConfig
from afterglow.model.segment import BufferedSpan

__all__ = ["Lot", "sort"]

_NO_TRACE = bytes(16)


class Lot(NamedTuple):
    """The spans of one trace in one batch; ids, parents and flags one behind the other."""

    project: bytes
    trace_id: bytes
    ids: bytes
    parents: bytes
    flags: bytes
    sizes: tuple[int, ...]
    payloads: tuple[bytes, ...]


def sort(
    spans: Sequence[BufferedSpan], now_ns: int, config: BufferConfig
) -> tuple[list[Lot], dict[str, dict[str, int]]]:
    """The lots of a batch, and what can never be held, by project and reason."""
    if not spans:
        return [], {}
    projects, traces, ids, parents, marks, payloads = zip(*spans, strict=True)
    parents = tuple([parent or NO_SPAN for parent in parents])
    sizes = tuple(map(len, payloads))
    if (
        set(map(len, traces)) == {16}
        and set(map(len, ids)) == {8}
        and set(map(len, parents)) == {8}
        and max(sizes) <= config.max_span_bytes
        and NO_SPAN not in ids
        and _NO_TRACE not in traces
    ):
        return _sorted(projects, traces, ids, parents, bytes(map(bool, marks)), sizes, payloads), {}
    found, dropped = subsegments(spans, now_ns, config)
    lots = [
        Lot(
            project.encode("utf-8", "surrogatepass"),
            trace_id,
            entry.span_ids,
            entry.parents,
            entry.flags,
            tuple(entry.sizes),
            tuple(given),
        )
        for project, trace_id, entry, given in found
    ]
    return lots, dropped


def _sorted(
    projects: tuple[str, ...],
    traces: tuple[bytes, ...],
    ids: tuple[bytes, ...],
    parents: tuple[bytes, ...],
    flags: bytes,
    sizes: tuple[int, ...],
    payloads: tuple[bytes, ...],
) -> list[Lot]:
    names = {project: project.encode("utf-8", "surrogatepass") for project in set(projects)}
    one_project = len(names) == 1
    keys: Sequence[Any] = traces if one_project else list(zip(projects, traces, strict=True))
    if one_project and traces.count(traces[0]) == len(traces):
        return [
            Lot(
                names[projects[0]], traces[0], b"".join(ids), b"".join(parents), flags, sizes,
                payloads,
            )
        ]  # fmt: skip
    groups: dict[Any, list[int]] = {}
    for at, key in enumerate(keys):
        if key in groups:
            groups[key].append(at)
        else:
            groups[key] = [at]
    unmarked = not any(flags)
    lots = []
    for places in groups.values():
        first = places[0]
        if len(places) == 1:
            lots.append(
                Lot(
                    names[projects[first]], traces[first], ids[first], parents[first],
                    flags[first : first + 1], (sizes[first],), (payloads[first],),
                )
            )  # fmt: skip
            continue
        pick: Callable[[Any], tuple[Any, ...]] = itemgetter(*places)
        lots.append(
            Lot(
                names[projects[first]],
                traces[first],
                b"".join(pick(ids)),
                b"".join(pick(parents)),
                bytes(len(places)) if unmarked else bytes(pick(flags)),
                pick(sizes),
                pick(payloads),
            )
        )
    return lots
