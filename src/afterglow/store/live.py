"""Statistics straight from the journals, without folding them: for views of what runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from afterglow.analyse.statistics import Statistics
from afterglow.errors import DamagedStoreError
from afterglow.model.statistics import NameStatistics
from afterglow.store.columns import Timings, decode_timings
from afterglow.store.journal_files import UnreadableJournalError, journals_in
from afterglow.store.schema import journals_of

__all__ = ["journal_statistics"]


def journal_statistics(path: Path) -> list[NameStatistics]:
    """Figures by name of the finished spans in the journals beside `path`, most time first.

    Self times are not known. Nothing is written, no lock is taken; what cannot be read is
    passed over, for the next fold will report it. Spans that were folded are not in it, but
    for those in journals that are still written.
    """
    statistics = Statistics()
    for journal in journals_in(journals_of(path)):
        try:
            if not journal.problem():
                for _, body in journal.batches(0):
                    if body is not None:
                        _add(statistics, body)
        except UnreadableJournalError:
            continue
        finally:
            journal.disconnect()
    return statistics.result()


def _add(statistics: Statistics, body: bytes) -> None:
    try:
        timings = decode_timings(body)
    except DamagedStoreError:
        return
    names = timings.names
    durations: list[list[int]] = [[] for _ in names]
    takers = [column.append for column in durations]
    for at, duration in zip(timings.name_index, timings.duration, strict=True):
        takers[at](duration)
    errors = _errors_by_name(timings)
    for at, name in enumerate(names):
        statistics.add(name, durations[at], self_ns=None, errors=errors[at])


def _errors_by_name(timings: Timings) -> Counter[int]:
    return Counter(timings.name_index[row] for row in timings.errors)
