"""What went out of the memory buffer, remembered for a while: span id -> root.

Late spans find the root that their parent went out with, and repeats are known as such. Most traces
are never heard of again, so the ids are kept as they came, 8 bytes a span, and made a mapping
only for a trace that gets late spans. The owner is the buffer, under its lock.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush

from afterglow.assembly import keys_of, remember

__all__ = ["Remembered"]

#: About what a run costs beside its ids, and what an id costs once it is in a mapping.
_RUN_BYTES = 300
_MAPPED_BYTES = 130


class _Trace:
    __slots__ = ("mapping", "renewed", "runs")

    def __init__(self) -> None:
        #: By number of the run: (root, ids of spans).
        self.runs: dict[int, tuple[bytes, bytes]] = {}
        self.mapping: dict[int, int] | None = None
        #: Roots that were remembered again, and until when.
        self.renewed: dict[bytes, int] = {}


class Remembered:
    """Span ids of traces, and the roots they went out with, until the caller's time says enough.

    Beyond `max_bytes` what would expire first is forgotten early: then a late span is an orphan,
    and a repeat goes out again (sinks know a span by its id).
    """

    def __init__(self, max_bytes: int) -> None:
        self.n_bytes = 0
        self._max_bytes = max_bytes
        self._traces: dict[Hashable, _Trace] = {}
        #: (time, number of the run, trace)
        self._expiring: list[tuple[int, int, Hashable]] = []
        self._runs = 0

    def __contains__(self, trace: Hashable) -> bool:
        return trace in self._traces

    def __len__(self) -> int:
        """How many traces are remembered."""
        return len(self._traces)

    def add(self, trace: Hashable, root: bytes, span_ids: bytes, until_ns: int) -> None:
        """These went out with that root. The root is remembered as long as the last of them."""
        known = self._traces.get(trace)
        if known is None:
            known = self._traces[trace] = _Trace()
        self._add_run(known, trace, root, span_ids, until_ns)
        if not _has(span_ids, root):
            known.renewed[root] = max(until_ns, known.renewed.get(root, until_ns))
            self._add_run(known, trace, root, root, until_ns)
        while self.n_bytes > self._max_bytes:
            self._forget_one()

    def mapping(self, trace: Hashable) -> dict[int, int]:
        """What is remembered of a trace, as `Tree` reads it: it changes as spans go out."""
        known = self._traces.get(trace)
        if known is None:
            return {}
        if known.mapping is None:
            known.mapping = {}
            for root, span_ids in known.runs.values():
                remember(known.mapping, root, span_ids)
            self.n_bytes += _mapped_bytes(known)
        return known.mapping

    def expire(self, now_ns: int) -> None:
        """Forget what was to be remembered until now."""
        while self._expiring and self._expiring[0][0] <= now_ns:
            self._forget_one()

    def _add_run(
        self, known: _Trace, trace: Hashable, root: bytes, span_ids: bytes, until_ns: int
    ) -> None:
        self._runs += 1
        known.runs[self._runs] = (root, span_ids)
        heappush(self._expiring, (until_ns, self._runs, trace))
        self.n_bytes += _RUN_BYTES + len(span_ids)
        if known.mapping is not None:
            remember(known.mapping, root, span_ids)
            self.n_bytes += _MAPPED_BYTES * (len(span_ids) // 8)

    def _forget_one(self) -> None:
        until_ns, number, trace = heappop(self._expiring)
        known = self._traces[trace]
        root, span_ids = known.runs.pop(number)
        self.n_bytes -= _RUN_BYTES + len(span_ids)
        stays = known.renewed.get(root)
        if stays is not None and stays <= until_ns:
            del known.renewed[root]
            stays = None
        if known.mapping is not None:
            self.n_bytes -= _MAPPED_BYTES * (len(span_ids) // 8)
            kept = () if stays is None else keys_of(root)
            for key in keys_of(span_ids):
                if key not in kept:
                    known.mapping.pop(key, None)
        if not known.runs:
            del self._traces[trace]


def _mapped_bytes(known: _Trace) -> int:
    return _MAPPED_BYTES * sum(len(span_ids) // 8 for _, span_ids in known.runs.values())


def _has(span_ids: bytes, span_id: bytes) -> bool:
    """Whether the id is among the ids, and not only the bytes across two of them."""
    at = span_ids.find(span_id)
    while at > 0 and at % 8:
        at = span_ids.find(span_id, at + 1)
    return at >= 0
