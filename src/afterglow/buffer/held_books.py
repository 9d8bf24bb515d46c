"""The books of a buffer in memory, by project; its lock owns them."""

from __future__ import annotations

from collections import Counter

import msgspec

from afterglow.model.segment import BufferBooks

__all__ = ["HeldBooks"]


class HeldBooks(msgspec.Struct):
    """Spans by project: ingested = delivered + dropped(by reason) + held."""

    ingested: dict[str, int] = {}
    delivered: dict[str, int] = {}
    #: By project, then by reason.
    dropped: dict[str, dict[str, int]] = {}
    held: dict[str, int] = {}

    def took(self, project: str, spans: int) -> None:
        """So many were taken in; what became of them is counted elsewhere."""
        _add(self.ingested, project, spans)

    def came(self, project: str, spans: int) -> None:
        """So many were taken in, and are held."""
        self.took(project, spans)
        _add(self.held, project, spans)

    def never_held(self, project: str, reason: str, spans: int) -> None:
        """So many were taken in, and dropped at once."""
        self.took(project, spans)
        self.ended(project, spans, reason)

    def ended(self, project: str, spans: int, dropped: str | None) -> None:
        """So many were delivered, or dropped."""
        if dropped is None:
            _add(self.delivered, project, spans)
        else:
            _add(self.dropped.setdefault(project, {}), dropped, spans)

    def went(self, project: str, spans: int, dropped: str | None) -> None:
        """So many are held no longer: delivered, or dropped."""
        _add(self.held, project, -spans)
        self.ended(project, spans, dropped)

    @property
    def held_spans(self) -> int:
        return sum(self.held.values())

    def read(self) -> BufferBooks:
        """As everybody sees them."""
        return BufferBooks(
            ingested=sum(self.ingested.values()),
            delivered=sum(self.delivered.values()),
            held=self.held_spans,
            dropped={project: dict(reasons) for project, reasons in self.dropped.items()},
        )

    def copy(self) -> HeldBooks:
        """The same numbers, apart."""
        return HeldBooks(
            dict(self.ingested),
            dict(self.delivered),
            {project: dict(reasons) for project, reasons in self.dropped.items()},
            dict(self.held),
        )

    def settle(self, held: dict[str, int]) -> int:
        """Bring the books to what is held after a restart: what is neither delivered, dropped nor
        held had been dropped as a repeat. How many more there are than ever came: 0, unless records
        of what came were damaged; they are counted as ingested then."""
        self.held = dict(held)
        beyond = 0
        for project in {*self.ingested, *self.delivered, *self.dropped, *held}:
            reasons = Counter(self.dropped.get(project, {}))
            known = self.delivered.get(project, 0) + reasons.total() + held.get(project, 0)
            repeats = self.ingested.get(project, 0) - known
            if repeats > 0:
                self.ended(project, repeats, "duplicate")
            elif repeats < 0:
                _add(self.ingested, project, -repeats)
                beyond -= repeats
        return beyond


def _add(counts: dict[str, int], key: str, count: int) -> None:
    counts[key] = counts.get(key, 0) + count
