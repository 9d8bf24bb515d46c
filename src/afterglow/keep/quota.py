"""Keeping a file of recorded traces within its quotas: in which order what goes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from afterglow.config import RetentionConfig
from afterglow.store.earlier import merge_names, merge_runs
from afterglow.store.let_go import going_on_bytes, let_go_oldest
from afterglow.store.room import Room, checkpoint, compact, measured, worth_compacting
from afterglow.store.schema import transaction

__all__ = ["Quota", "RoomMade"]

#: Room that is kept free; a fold comes in portions of half of it.
_HEADROOM: Final = 0.10
#: A span takes about so much of the file: for the size of a portion.
_SPAN_BYTES: Final = 300
#: Traces that go on take no more than this share of a full file.
_GOING_ON: Final = 0.5
#: Spans of a trace that goes on, forgotten in one transaction.
_LET_GO: Final = 2_048
_LEAST_EVICTED: Final = 16


class RoomMade(msgspec.Struct):
    """What making room did beside evicting. `over_bytes`: by so much the file is too large."""

    let_go_spans: int = 0
    compacted: int = 0
    over_bytes: int = 0


class Quota:
    """Makes room in one file. `evict(most)` forgets traces until so many are left and says how
    many went; `entries()` is how many there are. Raises sqlite3.Error."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        config: RetentionConfig,
        evict: Callable[[int], int],
        entries: Callable[[], int],
    ) -> None:
        self._path = path
        self._connection = connection
        self._config = config
        self._evict = evict
        self._entries = entries
        self._made = RoomMade()

    @property
    def headroom_bytes(self) -> int:
        """So much is kept free."""
        return int(self._config.keep_max_bytes * _HEADROOM)

    @property
    def portion_spans(self) -> int:
        """So many spans may be folded before room is made again."""
        return max(1, self.headroom_bytes // 2 // _SPAN_BYTES)

    def is_full(self, room: Room | None = None) -> bool:
        """Whether the next portion needs room to be made."""
        used = (room or measured(self._connection)).used_bytes
        return used > self._config.keep_max_bytes - self.headroom_bytes

    def make_room(self) -> RoomMade:
        """Forget until the file, the traces and the runs are in bounds."""
        self._made = RoomMade()
        self._evict(self._config.keep_max_traces)
        self._merge_runs(self._config.keep_max_runs)
        if self.is_full():
            self._free_pages()
        room = measured(self._connection)
        if room.file_bytes > self._config.keep_max_bytes and not self.is_full(room):
            self._compact()  # the quota is smaller than the file once was
            room = measured(self._connection)
        self._made.over_bytes = max(0, room.file_bytes - self._config.keep_max_bytes)
        return self._made

    def _free_pages(self) -> None:
        with transaction(self._connection) as connection:
            merge_names(connection)
        self._let_go(_GOING_ON)
        room = measured(self._connection)
        if worth_compacting(self._connection, room.used_bytes) and self._compact():
            room = measured(self._connection)
        mean = max(room.used_bytes / max(self._entries(), 1), 1.0)
        target = self._config.keep_max_bytes - self.headroom_bytes * 3 // 2
        while room.used_bytes > target:
            # Half of what it should take: to forget too much is worse than to look again.
            count = max(_LEAST_EVICTED, int((room.used_bytes - target) / mean / 2))
            if not (self._evict(self._entries() - count) or self._let_go(0.0)):
                break
            room = measured(self._connection)

    def _let_go(self, share: float) -> int:
        """Forget the oldest spans of traces that go on while these take more than this share of
        the quota; with 0 some, whatever they take. How many went."""
        gone = 0
        while going_on_bytes(self._connection) > self._config.keep_max_bytes * share:
            with transaction(self._connection) as connection:
                spans = let_go_oldest(connection, _LET_GO).spans
            gone += spans
            if not spans or not share:
                break
        self._made.let_go_spans += gone
        return gone

    def _merge_runs(self, most: int) -> None:
        merged = True
        while merged:
            with transaction(self._connection) as connection:
                merged = bool(merge_runs(connection, most))

    def _compact(self) -> bool:
        done = compact(self._connection)
        self._made.compacted += done
        checkpoint(self._connection, self._path, 0)
        return done
