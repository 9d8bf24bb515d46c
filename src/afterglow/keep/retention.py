"""Retention of recorded traces: each is an entry whose strength decides how long its spans stay.

The entries are those of a trace store (partition "spans") in the database itself. Whoever removes
one, because it has faded or the file needs room, removes its spans in the same transaction; what
they came to goes on counting (store/forget.py). A pass is cut into short transactions, each of
which leaves everything right, so it may be killed anywhere, and several may go on at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.config import RetentionConfig
from afterglow.errors import StoreError
from afterglow.keep.backend import LINK_AT, Changes, Coactivation, Found, Put, Totals
from afterglow.keep.changes import after_use
from afterglow.keep.entry import Moment, Record
from afterglow.keep.quota import Quota
from afterglow.keep.rules import entered, judge, spans_profile, tick_at
from afterglow.keep.sqlite.backend import SqliteBackend
from afterglow.keep.upkeep import due_ticks
from afterglow.ledger import ForgetReason
from afterglow.model.kept import History, TraceSummary
from afterglow.store.failures import explained
from afterglow.store.fold import Folded, fold
from afterglow.store.forget import Forgotten, forget_traces
from afterglow.store.room import Room, checkpoint, measured
from afterglow.store.schema import initialise, journals_of, transaction, verify
from afterglow.store.summaries import (
    changed_traces,
    histories,
    mark_changed,
    mark_entered,
    note_going_on,
    pinned_traces,
    set_pinned,
    summarise,
)

__all__ = ["PARTITION", "Pass", "Retention"]

PARTITION: Final = "spans"

#: New spans of one look: what other writers wait for at most (a tenth of a second).
_LOOK_SPANS: Final = 24_576
#: Entries made in one transaction.
_ENTER: Final = 512
_NO_LIMIT: Final = (1 << 63) - 1


class Pass(msgspec.Struct):
    """What one pass did. `over_bytes`: by so much the file is beyond its quota all the same, for
    what is left is pinned, or goes on."""

    folded: Folded = msgspec.field(default_factory=Folded)
    forgotten: Forgotten = msgspec.field(default_factory=Forgotten)
    entered: int = 0
    compacted: int = 0
    room: Room = Room(0, 0)
    over_bytes: int = 0

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.folded.batches or self.forgotten.traces or self.entered)


class Retention:
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
        self.path = path
        self.config = config or RetentionConfig()
        self.profile = spans_profile(self.config)
        self._protected = [name for name, kind in self.profile.kinds.items() if kind.protected]
        self._clock = clock or SystemClock()
        self._why: ForgetReason = "faded"
        self._pass = Pass()
        if path.exists():
            verify(path)
        elif not journals_of(path).is_dir():
            raise StoreError(f"{path} is not there; record into it first: afterglow run SCRIPT")
        self._backend = SqliteBackend(
            path, PARTITION, on_removed=self._forget_spans, busy_ms=busy_ms
        )
        with explained(path):
            self.connection = initialise(path)
            self.connection.execute(f"PRAGMA busy_timeout={busy_ms:d}")
        self._quota = Quota(
            path, self.connection, self.config, self._evict, lambda: self._backend.totals().entries
        )

    def close(self) -> None:
        """Give the file back."""
        self._backend.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

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
            with explained(self.path):
                self._mend()
        if forget:
            self.fade()
        with explained(self.path):
            self._pass.folded = fold(
                self.path,
                progress=progress,
                clock=self._clock,
                portion_spans=min(_LOOK_SPANS, self._quota.portion_spans),
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

    def fade(self) -> None:
        """Let the time that went by count, and forget what has faded."""
        now_ns = self._clock.wall_ns()

        def due(totals: Totals) -> tuple[int, int, int]:
            return due_ticks(totals, self.profile, now_ns)

        with self._because("faded"):
            self._backend.advance(due, now_ns)

    def _forget_spans(self, connection: Any, trace_ids: Sequence[str]) -> None:
        """In the transaction that removes these entries."""
        forgotten = forget_traces(connection, trace_ids, self._why)
        self._pass.forgotten.traces += forgotten.traces
        self._pass.forgotten.spans += forgotten.spans

    @contextmanager
    def _because(self, why: ForgetReason) -> Iterator[None]:
        before, self._why = self._why, why
        try:
            yield
        finally:
            self._why = before

    # --- looking: which traces are there, and what each is --------------------------------

    def look(self) -> None:
        """Take all that is new in the file into entries."""
        with explained(self.path):
            self._mend_pinned()
            while True:
                with self._transaction() as connection:
                    looked = summarise(connection, _LOOK_SPANS)
                    note_going_on(connection)
                self._enter()
                self._link(looked.links)
                if not looked.spans:
                    return

    def _mend_pinned(self) -> None:
        """What is pinned is never lost to a process that was killed between table and entry."""
        pinned = pinned_traces(self.connection)
        found = self._backend.read(pinned, links=False).records if pinned else {}
        wrong = [trace for trace in pinned if trace not in found or found[trace].kind != "pinned"]
        if wrong:
            with self._transaction() as connection:
                mark_changed(connection, wrong)

    def _mend(self) -> None:
        """Entries that somebody removed by hand, without their spans, are made again."""
        wrong: list[str] = []
        (traces,) = self.connection.execute("SELECT count(*) FROM traces").fetchone()
        if traces > self._backend.totals().entries:
            rows = self.connection.execute("SELECT trace_id FROM traces WHERE changed = 0")
            while portion := [trace for (trace,) in rows.fetchmany(_LOOK_SPANS)]:
                known = self._backend.known(portion)
                wrong += [trace for trace in portion if trace not in known]
        if wrong:
            with self._transaction() as connection:
                mark_changed(connection, wrong)

    def _enter(self) -> None:
        """Make the entries of traces that are new or have changed."""
        while traces := changed_traces(self.connection, _ENTER):
            usual = histories(self.connection, {(t.service, t.name) for t in traces})
            now_ns = self._clock.wall_ns()
            found = self._backend.read([trace.trace_id for trace in traces], links=False)
            tick = tick_at(self._moment(found.moment, now_ns), self.profile, now_ns)
            puts: list[Put] = []
            marks: list[tuple[TraceSummary, str, str]] = []
            for trace in traces:
                verdict = judge(
                    trace, usual.get((trace.service, trace.name), History()), self.config
                )
                before = found.records.get(trace.trace_id)
                record = entered(
                    trace, verdict, before, profile=self.profile, tick=tick, now_ns=now_ns
                )
                if record != before:
                    puts.append(Put(record))
                marks.append((trace, verdict.kind, verdict.why))
            if puts:
                new = len(traces) - len(found.records)
                self._backend.apply(Changes(puts=puts, ingested=new), now_ns)
                self._pass.entered += len(puts)
            with self._transaction() as connection:
                mark_entered(connection, marks)

    def _moment(self, moment: Moment, now_ns: int) -> Moment:
        """Before the first write there is none: time begins now."""
        return moment if moment.ticked_at else Moment(0, now_ns)

    def _link(self, links: Sequence[tuple[str, str]]) -> None:
        """A trace that another one points at matters: it is reinforced, and the two are linked."""
        if not links or not self.config.keep_looks:
            return
        self.reinforce({target for _, target in links})
        pairs = {(min(a, b), max(a, b)) for a, b in links}
        together = [Coactivation(a, b, LINK_AT) for a, b in sorted(pairs)]
        self._backend.apply(Changes(links=together), self._clock.wall_ns())

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

    def _evict(self, most: int) -> int:
        """Forget what would fade soonest until so many entries are left; how many went."""
        gone = self._backend.evict(
            max(0, most), _NO_LIMIT, self.profile.quota_policy, self._protected,
            self._clock.wall_ns(),
        )  # fmt: skip
        return len(gone)

    # --- what people say of a trace -------------------------------------------------------

    def pin(self, trace_id: str, pinned: bool = True) -> bool:
        """Keep a trace for good, or no longer; whether it was pinned. It must be known (`look`)."""
        with explained(self.path):
            with self._transaction() as connection:
                was = set_pinned(connection, trace_id, pinned)
            self._enter()
        return was

    def forget(self, trace_id: str) -> Forgotten:
        """Forget a trace now, pinned or not."""
        self._pass = Pass()
        with self._because("asked"):
            self._backend.apply(Changes(gone=[trace_id]), self._clock.wall_ns())
        return self._pass.forgotten

    def reinforce(self, trace_ids: Iterable[str]) -> int:
        """Traces that somebody looked at, exported or pointed at stay longer; how many there were.

        What is not known, pinned or goes on is passed over.
        """
        now_ns = self._clock.wall_ns()
        found = self._backend.read(sorted(set(trace_ids)), links=False)
        tick = tick_at(found.moment, self.profile, now_ns)
        touched: list[Record] = [
            after_use(record, tick, now_ns, imprinting=False)
            for record in found.records.values()
            if record.decay_rate > 0
        ]
        if touched:
            self._backend.apply(Changes(touched=touched), now_ns)
        return len(touched)

    def read(self, trace_ids: Sequence[str]) -> Found:
        """The entries of traces."""
        return self._backend.read(trace_ids, links=False)

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self.connection)
