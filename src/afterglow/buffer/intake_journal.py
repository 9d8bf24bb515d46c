"""What a buffer in memory writes down, so that a killed process loses nothing it acknowledged.

Records of a spool, in the order in which things happened, under the buffer's lock:

    came    time in ns, and the spans as they were given to `add`
    gone    parts that were acknowledged: ids, root, until when they are remembered, why

Each file begins with the books as they stood. A file goes when every span of it has gone, and what
went in it need not be remembered any longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from afterglow.buffer.held_books import HeldBooks
from afterglow.errors import SpoolError, SpoolFullError
from afterglow.model.segment import BufferedSpan
from afterglow.spool import Position, Spool
from afterglow.store.columns import zstd

__all__ = ["Gone", "IntakeJournal", "Journal", "NoJournal", "read_came", "read_gone", "read_header"]

_CAME: Final = b"C"
_GONE: Final = b"G"
_LEVEL: Final = 1


class Gone(NamedTuple):
    """Spans that are safe elsewhere (`dropped` None), or dropped: they are never held again."""

    project: str
    trace_id: bytes
    root_span_id: bytes
    #: 8 bytes each.
    span_ids: bytes
    until_ns: int
    dropped: str | None


class Journal(Protocol):
    """What a buffer in memory tells of what comes and goes; all but `encode` under its lock."""

    def encode(self, spans: Sequence[BufferedSpan], now_ns: int) -> bytes: ...

    def came(self, record: bytes, held: int, now_ns: int) -> int: ...

    def left(self, mark: int, spans: int) -> None: ...

    def gone(self, gone: Sequence[Gone]) -> None: ...


class NoJournal:
    """For a buffer that is gone with its process."""

    def encode(self, spans: Sequence[BufferedSpan], now_ns: int) -> bytes:
        return b""

    def came(self, record: bytes, held: int, now_ns: int) -> int:
        return 0

    def left(self, mark: int, spans: int) -> None: ...

    def gone(self, gone: Sequence[Gone]) -> None: ...


class IntakeJournal:
    """The records of one buffer, which calls all but `encode` with its lock held.

    Of what is held, the mark says in which file it came. `max_bytes` bounds the files: beyond it
    nothing more is taken in until what is held has gone.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        max_bytes: int,
        report: Callable[[str], None],
    ) -> None:
        self.spool = spool
        spool.header = self._header
        #: The books of the buffer, which it sets.
        self.books: Callable[[], HeldBooks] = HeldBooks
        self._max_bytes = max_bytes
        self._report = report
        #: Spans that are held, by the file they came in.
        self._held: Counter[int] = Counter()
        #: By file: until when what went in it is to be remembered.
        self._until_ns: dict[int, int] = {}
        self._file = 0
        #: What could not be written, though it has gone.
        self._owed: list[Gone] = []

    def encode(self, spans: Sequence[BufferedSpan], now_ns: int) -> bytes:
        """The record of spans that come; without the lock, for it takes a while."""
        body = msgspec.msgpack.encode(spans)
        compressed: bytes = zstd.compress(body, _LEVEL)
        return _CAME + now_ns.to_bytes(8, signed=True) + compressed

    def came(self, record: bytes, held: int, now_ns: int) -> int:
        """Write what comes, of which so many spans are held; the mark of these.

        Raises SpoolError, with nothing written: on a full disk, or beyond the bound.
        """
        self._pay()
        if self.spool.size_bytes + len(record) > self._max_bytes:
            self._make_room(now_ns, len(record))
        at = self.spool.append(record)
        self._held[at.file] += held
        if at.file != self._file:
            self._file = at.file
            self.tidy(now_ns)
        return at.file

    def left(self, mark: int, spans: int) -> None:
        """So many spans with this mark are held no longer."""
        self._held[mark] -= spans
        if self._held[mark] <= 0:
            del self._held[mark]

    def gone(self, gone: Sequence[Gone]) -> None:
        """Write what goes, before it is counted. Never raises: what cannot be written is owed, and
        comes again if the process dies before."""
        self._pay(gone)

    def tidy(self, now_ns: int) -> None:
        """Remove files that nobody needs. Never raises."""
        remembered = [file for file, until_ns in self._until_ns.items() if until_ns > now_ns]
        self._forget(min((*self._held, *remembered), default=self.spool.end.file))

    def restored(self, mark: int, held: int, until_ns: int) -> None:
        """As replayed: so many spans of this file are held; what went in it, until when."""
        if held:
            self._held[mark] += held
        self._until_ns[mark] = max(until_ns, self._until_ns.get(mark, 0))

    def _forget(self, before: int) -> None:
        try:
            self.spool.forget(Position(before, 0))
        except SpoolError as error:
            self._report(f"{error}; the journal keeps more than it needs")
        for file in [file for file in self._until_ns if file < before]:
            del self._until_ns[file]

    def _make_room(self, now_ns: int, more_bytes: int) -> None:
        """Beyond the bound, what went is remembered no longer."""
        self.tidy(now_ns)
        if self.spool.size_bytes + more_bytes > self._max_bytes:
            self._forget(min(self._held, default=self.spool.end.file))
        if self.spool.size_bytes + more_bytes > self._max_bytes:
            raise SpoolFullError(
                f"{self.spool.folder} has reached its bound of {self._max_bytes:,} bytes: what is "
                "held must go out first"
            )

    def _pay(self, more: Sequence[Gone] = ()) -> None:
        """Write what is owed, and more that the books do not count yet."""
        going = [*self._owed, *more]
        if not going:
            return
        try:
            at = self.spool.append(_GONE + msgspec.msgpack.encode(going))
        except SpoolError as error:
            self._owed = going  # from now on the books count them
            self._report(f"{error}; what went out is written down later")
            return
        self._owed = []
        until_ns = max(one.until_ns for one in going)
        self._until_ns[at.file] = max(until_ns, self._until_ns.get(at.file, 0))

    def _header(self) -> bytes:
        """The books without what is owed, for that is written behind them."""
        books = self.books().copy()
        for one in self._owed:
            books.went(one.project, -(len(one.span_ids) // 8), one.dropped)
        return msgspec.msgpack.encode(books)


# --- reading it again -----------------------------------------------------------------------

_spans_decoder = msgspec.msgpack.Decoder(list[BufferedSpan])
_gone_decoder = msgspec.msgpack.Decoder(list[Gone])
_books_decoder = msgspec.msgpack.Decoder(HeldBooks)


def read_header(header: bytes | None) -> HeldBooks | None:
    """The books at the beginning of a file; None where that is damaged."""
    try:
        return None if not header else _books_decoder.decode(header)
    except msgspec.DecodeError:
        return None


def read_came(record: bytes) -> tuple[int, list[BufferedSpan]] | None:
    """When they came, and the spans; None for a record of another kind."""
    if record[:1] != _CAME:
        return None
    return int.from_bytes(record[1:9], signed=True), _spans_decoder.decode(
        zstd.decompress(record[9:])
    )


def read_gone(records: Iterable[tuple[Position, bytes]]) -> Iterator[tuple[int, Gone]]:
    """What went, with the number of the file that says so."""
    for at, record in records:
        if record[:1] == _GONE:
            for one in _gone_decoder.decode(record[1:]):
                yield at.file, one
