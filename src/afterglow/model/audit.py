"""A process's books held against the spans that are there."""

from __future__ import annotations

import msgspec

from afterglow.ledger import Ledger
from afterglow.model.run import Process

__all__ = ["Audit"]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """One writer of one process: what it says it wrote, and what the file holds.

    `forgotten` counts, by reason, finished spans that retention took out of the file again.
    `ledger` is what its newest batch said, corrected by `rescued`: spans of journals that the
    writer's own bound removed (`journal_limit`) but that had been read before. `found` counts
    finished spans in the file. `in_flight` of a process that was killed are the spans it lost.
    """

    process: Process
    #: "running", "finished" or "interrupted".
    state: str
    ledger: Ledger
    found: int
    rescued: int
    damaged_batches: int
    forgotten: dict[str, int] = {}

    @property
    def agrees(self) -> bool:
        """Whether as many spans are in the file, or were forgotten, as were written to journals."""
        return self.missing == 0

    @property
    def missing(self) -> int:
        """Spans that were written, and are neither in the file nor counted as forgotten."""
        return self.ledger["written"] - self.found - sum(self.forgotten.values())
