"""What is known of a trace in a file, for whoever decides how long it stays."""

from __future__ import annotations

import msgspec

__all__ = ["History", "TraceSummary"]


class TraceSummary(msgspec.Struct, frozen=True):
    """One trace as far as its spans are in the file. Times are ns, start and end since 1970.

    `name`, `service`, `status` and `duration_ns` are the root's; `duration_ns` is None while that
    is not there or has not ended. `bytes` is about what the trace takes in the file. `going_on`
    says that a living process has not ended it, `pinned` that somebody wants it kept for good.
    """

    trace_id: str
    service: str
    name: str
    start_ns: int
    end_ns: int
    duration_ns: int | None
    status: str
    spans: int
    errors: int
    bytes: int
    last_span: int
    going_on: bool
    pinned: bool


class History(msgspec.Struct, frozen=True):
    """How long traces of one name of one service usually take (ns), and how many there were."""

    traces: int = 0
    p50_ns: float = 0.0
    p99_ns: float = 0.0
