"""The books of a service, over all restarts: received = delivered + dropped + in flight.

Three sets of books are held against each other: the buffer's (in its journal, or in Redis), the
store's (how many spans sinks brought to the files), and those of each queue of what is sent on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from afterglow.buffer.journaled import books_in
from afterglow.collecting.folder import folder_of
from afterglow.collecting.sending import queues_in
from afterglow.collecting.sinks import projects_of
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferBooks
from afterglow.store.read import Database

__all__ = ["SentOn", "ServiceAudit", "StoredIn", "audit_cluster", "audit_service"]


class StoredIn(msgspec.Struct, frozen=True):
    """One file: spans that came in parts of segments, each time, and of parts that were new."""

    project: str
    brought: int
    kept: int


class SentOn(msgspec.Struct, frozen=True):
    """One queue: taken = sent + refused + dropped + queued, in spans."""

    name: str
    taken: int
    sent: int
    refused: int
    dropped: int
    queued: int

    @property
    def balanced(self) -> bool:
        return self.taken == self.sent + self.refused + self.dropped + self.queued


class ServiceAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What all books say; `elsewhere`: the service has also run without this store."""

    where: str
    buffer: BufferBooks | None
    stored: tuple[StoredIn, ...] = ()
    sent: tuple[SentOn, ...] = ()
    elsewhere: bool = False

    @property
    def problems(self) -> list[str]:
        """What does not add up; empty when all does."""
        found = []
        if self.buffer is not None and not self.buffer.balanced:
            found.append("the buffer: received is not delivered + dropped + in flight")
        found += [
            f"{sent.name}: taken is not sent + refused + dropped + queued"
            for sent in self.sent
            if not sent.balanced
        ]
        missing = self._missing()
        if missing > 0:
            found.append(f"{missing:,} spans were delivered, and never came to the store")
        return found

    def _missing(self) -> int:
        """What comes again late is brought again, so more may have been brought than delivered."""
        if self.buffer is None or self.elsewhere or not self.stored:
            return 0
        return self.buffer.delivered - sum(one.brought for one in self.stored)


def audit_service(database: Path) -> ServiceAudit | None:
    """The books beside a database; None where no service has run on it.

    It may be running: every set of books is read as it is now. Raises StoreError.
    """
    folder = folder_of(database)
    if not folder.is_dir():
        return None
    buffer = books_in(folder / "intake")
    # The buffer first: what is delivered meanwhile is in the store then.
    return ServiceAudit(
        where=str(folder),
        buffer=buffer,
        stored=tuple(_stored(database)),
        sent=tuple(_sent(folder)),
        elsewhere=(folder / "elsewhere").exists(),
    )


def audit_cluster(config: BufferConfig) -> ServiceAudit:
    """The books of all collectors around a Redis. Raises SpanBufferError, SettingError."""
    from afterglow import buffering

    with buffering.desk(config) as desk:
        return ServiceAudit(where=desk.address, buffer=desk.inspector.books())


def _stored(database: Path) -> Iterator[StoredIn]:
    for project, path in projects_of(database):
        with Database(path) as opened:
            brought, kept = opened.deliveries()
        yield StoredIn(project, brought, kept)


def _sent(folder: Path) -> Iterator[SentOn]:
    for name, books in queues_in(folder):
        yield SentOn(name, books.taken, books.sent, books.refused, books.dropped, books.queued)
