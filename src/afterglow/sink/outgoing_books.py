"""The books of what is sent on: how much became what, and which messages are known.

Every line of them has the totals as they stand after it, so the last one says it all, and old ones
can go. They survive `kill -9`; what cannot be written for a full disk goes with the next line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from afterglow.errors import SinkError, SpoolError
from afterglow.spool.folder import file_name, numbered_files
from afterglow.spool.frames import PREFIX_BYTES, START, Frame, Position, frames, salt_of
from afterglow.spool.spool import Spool

__all__ = ["Books", "SentBooks", "Totals", "read_books"]

#: Message ids in one generation; there are two.
_MOST_IDS: Final = 1_000_000
_ID_BYTES: Final = 16


class SentBooks(msgspec.Struct, frozen=True):
    """Where every span went: taken = sent + refused + dropped + queued.

    `refused` ones the other side will never take, `dropped` ones the full queue lost to newer
    ones. `repeats` were given again and are in none of the others. `queued_bytes` is on the disk.
    """

    taken: int = 0
    sent: int = 0
    refused: int = 0
    dropped: int = 0
    queued: int = 0
    queued_bytes: int = 0
    repeats: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the equation above holds."""
        return (
            self.taken == self.sent + self.refused + self.dropped + self.queued and self.queued >= 0
        )


class Totals(msgspec.Struct):
    """All that `SentBooks` has, and two positions in the queue.

    Up to `counted` all records are in `taken`, up to `done` they are settled.
    """

    taken: int = 0
    sent: int = 0
    refused: int = 0
    dropped: int = 0
    repeats: int = 0
    queued_bytes: int = 0
    counted: Position = START
    done: Position = START

    def books(self) -> SentBooks:
        """The same for a reader."""
        queued = self.taken - self.sent - self.refused - self.dropped
        return SentBooks(
            self.taken,
            self.sent,
            self.refused,
            self.dropped,
            queued,
            self.queued_bytes,
            self.repeats,
        )


class _Line(msgspec.Struct, array_like=True):
    wall_ns: int
    totals: Totals
    #: Message ids that were taken, 16 bytes each.
    ids: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Line).decode


class Books:
    """Totals and known messages, over restarts. Whoever owns it calls it by one thread at a time.

    A message is known for `remember_s` at least, and for twice that at most, unless more than a
    million go through in that time; the time in which nothing runs does not count.
    """

    def __init__(self, log: Spool, remember_s: float, now_ns: int) -> None:
        self._log = log
        self._remember_ns = round(remember_s * 1e9)
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()
        #: Ids of lines that could not be written.
        self._unwritten: list[bytes] = []
        #: The newest line, and the newest when the present generation began.
        self._newest = self._turned_at = START
        self._turned_ns = now_ns
        self.totals = self._learn()

    def __contains__(self, message_id: bytes) -> bool:
        return message_id in self._new or message_id in self._old

    def note(self, ids: Iterable[bytes], now_ns: int) -> bool:
        """Write down what `totals` are now, and that these were taken; False for a full disk.

        What was not written is so with the next line; until then a `kill -9` takes it back.
        """
        ids = list(ids)
        self._turn(now_ns)
        self._new.update(ids)
        self._unwritten += ids
        line = _Line(now_ns, self.totals, b"".join(self._unwritten))
        try:
            self._newest = self._log.append(_encode(line))
        except SpoolError:
            return False
        self._unwritten.clear()
        return True

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _turn(self, now_ns: int) -> None:
        """Begin a new generation when the present one is old or large enough."""
        over = now_ns - self._turned_ns >= self._remember_ns
        if not over and now_ns >= self._turned_ns and len(self._new) < _MOST_IDS:
            return
        if now_ns < self._turned_ns:  # the clock was set back: count from here
            self._turned_ns = now_ns
            return
        self._old, self._new = self._new, set()
        before, self._turned_at = self._turned_at, self._newest
        self._turned_ns = now_ns
        # The file of the newest line stays: it is the totals.
        with suppress(SpoolError):
            self._log.forget(min(before, self._newest))

    def _learn(self) -> Totals:
        last: _Line | None = None
        lines = [(at, _decode(record)) for at, record in self._log.read()]
        for at, line in lines:
            last, self._newest = line, at
        if last is None:
            return Totals()
        for at, line in lines:
            if line.wall_ns < last.wall_ns - self._remember_ns:
                self._turned_at = at
                continue
            self._new.update(
                line.ids[i : i + _ID_BYTES] for i in range(0, len(line.ids), _ID_BYTES)
            )
        return last.totals


def read_books(folder: str | os.PathLike[str]) -> SentBooks:
    """The books of an Outgoing's folder, from any process; all zeros where there are none yet.

    What a process that was killed had queued and not yet booked shows once somebody opens it.
    Raises SinkError for files that cannot be read.
    """
    path = Path(folder) / "books"
    last = None
    try:
        for number in reversed(numbered_files(path)[0] if path.is_dir() else []):
            for last in _records(path / file_name(number)):  # noqa: B007  the newest one matters
                pass
            if last is not None:
                return _decode(last).totals.books()
    except (OSError, msgspec.DecodeError) as error:
        raise SinkError(f"cannot read the books in {path}: {error}") from None
    return SentBooks()


def _records(path: Path) -> Iterator[bytes]:
    """The records of a file that another process may write, or have removed by now."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        salt = salt_of(file.read(PREFIX_BYTES))
        if salt is None:
            return
        for frame in frames(file, PREFIX_BYTES, path.stat().st_size, salt):
            if isinstance(frame, Frame) and frame.offset > PREFIX_BYTES:
                yield frame.body
