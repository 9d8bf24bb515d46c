"""Retention of the traces in one file (the rules are in keep/keeper.py).

The entries are those of a trace store (partition "spans") in the database itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.config import RetentionConfig
from afterglow.errors import StoreError
from afterglow.keep.keeper import LOOK_SPANS, Keeper, Pass
from afterglow.keep.quota import Quota
from afterglow.keep.sqlite.backend import SqliteBackend
from afterglow.keep.sqlite.spans import FileSpans
from afterglow.store.failures import explained
from afterglow.store.fold import fold
from afterglow.store.room import checkpoint, measured
from afterglow.store.schema import initialise, journals_of, verify

__all__ = ["PARTITION", "Pass", "Retention"]

PARTITION: Final = "spans"


class Retention(Keeper):
    """The traces of one database. Close it, or use `with`. Raises StoreError.

    The file is made if there are journals for it. Not for several threads at once.
    """

    def __init__(
        self,
        path: Path,
        config: RetentionConfig | None = None,
        *,
        clock: Clock | None = None,
        busy_ms: int = 30_000,
    ) -> None:
        super().__init__(config, clock or SystemClock())
        self.path = path
        if path.exists():
            verify(path)
        elif not journals_of(path).is_dir():
            raise StoreError(f"{path} is not there; record into it first: afterglow run SCRIPT")
        self._backend = SqliteBackend(
            path, PARTITION, on_removed=self.forget_spans, busy_ms=busy_ms
        )
        with explained(path):
            self.connection = initialise(path)
            self.connection.execute(f"PRAGMA busy_timeout={busy_ms:d}")
        self.spans = FileSpans(path, self.connection, PARTITION)
        self._quota = Quota(
            path, self.connection, self.config, self._evict, lambda: self._backend.totals().entries
        )

    def close(self) -> None:
        """Give the file back."""
        super().close()
        self.connection.close()

    # --- one pass -------------------------------------------------------------------------

    def step(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        forget: bool = True,
        mend: bool = True,
    ) -> Pass:
        """Fold what is new, let fade, and forget what has faded or has no room.

        Without `forget` nothing goes: traces are only looked at. `mend` holds all traces against
        their entries first, which costs as much as there are traces.
        """
        self._pass = Pass()
        if mend:
            self._mend()
        if forget:
            self.fade()
        with explained(self.path):
            self._pass.folded = fold(
                self.path,
                progress=progress,
                clock=self._clock,
                portion_spans=min(LOOK_SPANS, self._quota.portion_spans),
                between=self._between if forget else None,
            )
            self.look()
            if forget:
                self.make_room()
            self._pass.room = measured(self.connection)
            checkpoint(self.connection, self.path, 0)
        return self._pass

    def _between(self) -> None:
        """Between two portions of a fold: the next one finds room."""
        checkpoint(self.connection, self.path, self._quota.headroom_bytes)
        if self._quota.is_full():
            self.look()
            self.make_room()

    # --- room -----------------------------------------------------------------------------

    def make_room(self) -> None:
        """Forget what would fade soonest until the file is within its quotas."""
        with explained(self.path), self._because("quota"):
            made = self._quota.make_room()
        self._pass.forgotten.spans += made.let_go_spans
        self._pass.compacted += made.compacted
        self._pass.over_bytes = made.over_bytes

    @property
    def full(self) -> bool:
        """Whether the file is so large that the next pass makes room in it."""
        with explained(self.path):
            return self._quota.is_full()
