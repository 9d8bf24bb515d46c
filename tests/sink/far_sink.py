"""A sink by hand: what it takes, what it says, what it has got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.model.segment import Fence, SegmentPart


class FarSink:
    """Takes parts while it is there; refuses some for ever; keeps every message id it took."""

    def __init__(self) -> None:
        self.away = False
        self.retry_after_s = 0.0
        self.refuses: set[str] = set()
        #: Goes away after so many more writes.
        self.takes: int | None = None
        self.rejected_spans = 0
        self.rejects_each = 0
        self.got: list[str] = []
        self.tries = 0
        self.closed = 0

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self.tries += 1
        if self.takes is not None:
            if self.takes == 0:
                self.away = True
            else:
                self.takes -= 1
        if self.away:
            raise SinkUnavailableError("told to be away", retry_after_s=self.retry_after_s)
        if any(part.message_id in self.refuses for part in parts):
            raise SinkError("told to refuse")
        self.rejected_spans += self.rejects_each
        self.got += [part.message_id for part in parts]

    def close(self) -> None:
        self.closed += 1

    @property
    def times(self) -> Counter[str]:
        return Counter(self.got)


def part(number: int, *, spans: int = 1, size: int = 10, project: str = "p") -> SegmentPart:
    """A part whose ids say its number."""
    ids = tuple((number << 16 | at).to_bytes(8) for at in range(spans))
    return SegmentPart(
        message_id=f"{number:032x}",
        project=project,
        trace_id=number.to_bytes(16),
        root_span_id=number.to_bytes(8),
        part=0,
        is_last=True,
        addendum=False,
        span_ids=ids,
        payloads=tuple(bytes([number % 251]) * size for _ in ids),
        fence=Fence("o", 1, 1),
    )


def ids(*numbers: int) -> list[str]:
    """The message ids of parts."""
    return [f"{number:032x}" for number in numbers]
