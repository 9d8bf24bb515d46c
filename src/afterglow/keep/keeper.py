"""Retention of traces, wherever their spans are: each is an entry whose strength decides how long.

The entries are those of a trace store in the same database. Whoever removes one, because it has
faded or there is no room, removes its spans in the same transaction; what they came to goes on
counting. A pass is cut into short transactions, each of which leaves everything right, so it may
be killed anywhere, and several may go on at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from afterglow.clock import Clock
from afterglow.config import RetentionConfig
from afterglow.keep.backend import LINK_AT, Backend, Changes, Coactivation, Found, Put, Totals
from afterglow.keep.changes import after_use
from afterglow.keep.entry import Moment, Record
from afterglow.keep.rules import entered, judge, spans_profile, tick_at
from afterglow.keep.upkeep import due_ticks
from afterglow.ledger import ForgetReason
from afterglow.model.kept import History, TraceSummary
from afterglow.store.fold import Folded
from afterglow.store.forget import Forgotten
from afterglow.store.room import Room
from afterglow.store.summaries import Looked

__all__ = ["Keeper", "KeptSpans", "Pass", "Stand"]

#: New spans of one look: what other writers wait for at most (a tenth of a second).
LOOK_SPANS: Final = 24_576
#: Entries made in one transaction.
_ENTER: Final = 512
_NO_LIMIT: Final = (1 << 63) - 1


class Stand(msgspec.Struct):
    """What a store of spans says for `standing` (keep/standing.py): rows as they are listed there.

    `kinds` has kind, traces, spans, errors and bytes; `pinned`, `latest` and `soonest` have trace
    id, prune tick, kind, why, service, name, start, duration and spans of a trace.
    """

    room: Room
    numbers: dict[str, int]
    kinds: list[tuple[Any, ...]]
    pinned: list[tuple[Any, ...]]
    latest: list[tuple[Any, ...]]
    soonest: list[tuple[Any, ...]]
    faded: int


class KeptSpans(Protocol):
    """The traces of one project (or file), as far as retention asks. Trace ids are 32 hexadecimal
    digits. Each method is one transaction and raises StoreError."""

    #: What a person calls it.
    place: str

    def look(self, most_spans: int) -> Looked:
        """Take the next new spans into the traces; no spans: nothing is new."""
        ...

    def changed(self, most: int) -> list[TraceSummary]:
        """Traces whose entry does not know of them yet, or not as they are."""
        ...

    def histories(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], History]:
        """What is usual, by service and name."""
        ...

    def mark_entered(self, traces: Sequence[tuple[TraceSummary, str, str]]) -> None:
        """Their entries know of them as they are in these summaries, of this kind and why; those
        that have changed since stay changed."""
        ...

    def mark_changed(self, ids: Sequence[str]) -> None:
        """Their entries are to be made again."""
        ...

    def set_pinned(self, trace_id: str, pinned: bool) -> bool:
        """Pin or unpin a trace, whose entry is made again; whether it was pinned before."""
        ...

    def pinned(self) -> list[str]:
        """The ids of all pinned traces."""
        ...

    def count(self) -> int:
        """How many traces there are."""
        ...

    def entered(self) -> Iterator[list[str]]:
        """The ids of traces that should have an entry, in portions."""
        ...

    def forget(self, connection: Any, ids: Sequence[str], why: ForgetReason) -> Forgotten:
        """Forget traces, in the transaction of `connection`, which removes their entries."""
        ...

    def stand(self, tick: int, limit: int) -> Stand:
        """What there is, for people; at most `limit` traces in each list."""
        ...

    def neighbours(self, trace_id: str) -> tuple[str | None, str | None]:
        """The ids before and after."""
        ...

    def beginning_with(self, digits: str, most: int) -> list[str]:
        """Ids that begin with these digits."""
        ...


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


class Keeper(ABC):
    """The rules that are the same wherever spans are. Not for several threads at once.

    Whoever makes one gives its back end `self.forget_spans` as `on_removed`.
    """

    spans: KeptSpans
    _backend: Backend

    def __init__(self, config: RetentionConfig | None, clock: Clock) -> None:
        self.config = config or RetentionConfig()
        self.profile = spans_profile(self.config)
        self._protected = [name for name, kind in self.profile.kinds.items() if kind.protected]
        self._clock = clock
        self._why: ForgetReason = "faded"
        self._pass = Pass()

    def close(self) -> None:
        """Give everything back."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fade(self) -> None:
        """Let the time that went by count, and forget what has faded."""
        now_ns = self._clock.wall_ns()

        def due(totals: Totals) -> tuple[int, int, int]:
            return due_ticks(totals, self.profile, now_ns)

        with self._because("faded"):
            self._backend.advance(due, now_ns)

    def forget_spans(self, connection: Any, trace_ids: Sequence[str]) -> None:
        """In the transaction that removes these entries."""
        forgotten = self.spans.forget(connection, trace_ids, self._why)
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
        """Take all that is new into entries."""
        self._mend_pinned()
        while True:
            looked = self.spans.look(LOOK_SPANS)
            self._enter()
            self._link(looked.links)
            if not looked.spans:
                return

    def _mend_pinned(self) -> None:
        """What is pinned is never lost to a process that was killed between table and entry."""
        pinned = self.spans.pinned()
        found = self._backend.read(pinned, links=False).records if pinned else {}
        wrong = [trace for trace in pinned if trace not in found or found[trace].kind != "pinned"]
        if wrong:
            self.spans.mark_changed(wrong)

    def _mend(self) -> None:
        """Entries that somebody removed by hand, without their spans, are made again."""
        wrong: list[str] = []
        if self.spans.count() > self._backend.totals().entries:
            for portion in self.spans.entered():
                known = self._backend.known(portion)
                wrong += [trace for trace in portion if trace not in known]
        if wrong:
            self.spans.mark_changed(wrong)

    def _enter(self) -> None:
        """Make the entries of traces that are new or have changed."""
        while traces := self.spans.changed(_ENTER):
            usual = self.spans.histories({(t.service, t.name) for t in traces})
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
            self.spans.mark_entered(marks)

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
        was = self.spans.set_pinned(trace_id, pinned)
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

    # --- whoever has spans somewhere says how -------------------------------------------------

    @abstractmethod
    def step(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        forget: bool = True,
        mend: bool = True,
    ) -> Pass:
        """Take in what is new, let fade, and forget what has faded or has no room.

        Without `forget` nothing goes: traces are only looked at. `mend` holds all traces against
        their entries first, which costs as much as there are traces.
        """

    @property
    @abstractmethod
    def full(self) -> bool:
        """Whether there is so much that the next pass makes room."""
