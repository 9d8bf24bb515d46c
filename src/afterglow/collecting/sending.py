"""What is sent on: each sink behind a queue of its own on the disk; none holds up the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from afterglow.collecting.settings import ServeSettings
from afterglow.config import SendConfig
from afterglow.counts import Counts
from afterglow.model.segment import SegmentPart
from afterglow.ports import SegmentSink
from afterglow.sink.outgoing import Outgoing
from afterglow.sink.outgoing_books import SentBooks, read_books

__all__ = ["queues_in", "sending_to"]


class _WithLeftovers:
    """A ports.SegmentSink; beside it, queues that flushers left which there are no more."""

    def __init__(self, sink: SegmentSink, leftovers: Sequence[SegmentSink]) -> None:
        self._sink = sink
        self._leftovers = leftovers

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self._sink.write(parts)

    def close(self) -> None:
        for one in (self._sink, *self._leftovers):
            one.close()


def sending_to(
    name: str,
    make: Callable[[], SegmentSink],
    settings: ServeSettings,
    counts: Counts,
    report: Callable[[str], None],
    number: int,
) -> SegmentSink:
    """The sink that `make` makes, behind the queue of flusher `number`.

    Queues of numbers that there are no more (there were more flushers once) are sent by flusher
    i mod n. Raises SinkError for a folder that cannot be used.
    """

    def outgoing(of: int, config: SendConfig) -> Outgoing:
        return Outgoing(
            name, make(), _folder(settings.folder, name, of), config,
            counts=counts, report=report, remember_s=settings.buffer.tombstone_s,
        )  # fmt: skip

    flushers = 1 if settings.is_embedded else settings.flush.flushers
    left = [
        of
        for of, _ in _queues(settings.folder / "out" / name)
        if of >= flushers and of % flushers == number
    ]
    mine = outgoing(number, settings.send)
    return _WithLeftovers(mine, [outgoing(of, settings.send) for of in left]) if left else mine


def queues_in(folder: Path) -> Iterator[tuple[str, SentBooks]]:
    """The books of each queue of a service, which may be running, by the sink's name.

    Raises SinkError for files that cannot be read.
    """
    out = folder / "out"
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        for _, queue in _queues(path):
            yield path.name, read_books(queue)


def _folder(folder: Path, name: str, number: int) -> Path:
    return folder / "out" / name / str(number)


def _queues(path: Path) -> list[tuple[int, Path]]:
    if not path.is_dir():
        return []
    return sorted((int(one.name), one) for one in path.iterdir() if one.name.isdecimal())
