"""The bounded queue between the program and the writer.

A put is `if len(flat) < limit: extend((nine values))`: one call into C, atomic under the
interpreter lock, no lock of ours, no wait. The tracer inlines it (record/tracer.py); all that
is rarer is here. Each span takes exactly one counted way, and the books are derived from the
queue itself, so they balance at every moment:

    recorded  = taken + waiting + refused          in_flight = taken - settled + waiting

Who owns what: producers only ever extend `flat` and draw from tallies; whoever shortens
`flat` or changes a count holds `_lock`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

from afterglow.config import Overflow, WriteConfig
from afterglow.ledger import CHANGE_KINDS, NOT_RECORDED_REASONS, Ledger
from afterglow.model.flat import WIDTH, Flat

__all__ = ["Handover", "Tally"]


class Tally:
    """A counter that many threads may draw from without a lock (one C call, atomic)."""

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add = self._count.__next__

    @property
    def value(self) -> int:
        """How often `add` was called."""
        # repr is the one way to look at a count without drawing from it: "count(5)".
        return int(repr(self._count)[6:-1])


class Handover:
    """Spans on their way from the program to the writer, and the books of both."""

    def __init__(self, config: WriteConfig) -> None:
        self._config = config
        self._listeners: list[Callable[[int], None]] = []
        self._begin()

    def _begin(self) -> None:
        #: The queue. The same list for ever: producers have bound its `extend`.
        self.flat: Flat = getattr(self, "flat", [])
        self.flat.clear()
        #: In values, not spans. 0 once closed, so that every put comes to `refuse`.
        self.limit = 0
        self._set_limit(self._config.max_queue_size * WIDTH)
        self.closed = False
        self._ended = False
        #: Called by the first put, once; see `wake_with`.
        self._first: Callable[[], None] | None = None
        #: Called before a producer waits for room: the writer need not finish its pause.
        self.pressed: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._taken = 0
        self._written = 0
        self._settled_dropped: dict[str, int] = {}
        self._refused = {reason: Tally() for reason in ("queue_full", "closed")}
        self._changed: dict[str, Tally] = {kind: Tally() for kind in CHANGE_KINDS}
        self.not_recorded: dict[str, Tally] = {reason: Tally() for reason in NOT_RECORDED_REASONS}
        #: The thread that takes: it must never wait for itself.
        self.taker: int | None = None

    def after_fork(self) -> None:
        """In a forked child: what waited here is the parent's to write."""
        self._begin()

    def _set_limit(self, values: int) -> None:
        self.limit = values
        for listener in self._listeners:
            listener(values)

    def tell_limit(self, listener: Callable[[int], None]) -> None:
        """Call `listener` with each new limit: the hot path keeps its own copy of it."""
        self._listeners.append(listener)

    def wake_with(self, first: Callable[[], None]) -> None:
        """Call `first` when the first span comes; until then nobody need take from here.

        A forked child starts its writer's thread so: most children of most programs never
        record anything. It costs later puts nothing, for it is a limit of 0 that is lifted.
        """
        self._first = first
        self._set_limit(0)

    def _awake(self) -> None:
        # The limit first: whoever finds no more `_first` must find room. close() may come between.
        self._set_limit(self._config.max_queue_size * WIDTH)
        if self.closed:
            self._set_limit(0)
        first, self._first = self._first, None
        if first is not None:
            first()

    # --- the program's side -------------------------------------------------------------

    def put(self, record: tuple[Any, ...]) -> None:
        """Hand over one span (the tracer inlines the first two lines)."""
        if len(self.flat) < self.limit:
            self.flat.extend(record)
        else:
            self.refuse(record)

    def refuse(self, record: tuple[Any, ...]) -> None:
        """The queue was full, or closed: do as the policy says, and count it."""
        policy: Overflow = self._config.overflow
        if self._first is not None:
            self._awake()
            self.put(record)
        elif self.closed:
            self._refused["closed"].add()
        elif policy == "drop_oldest":
            self._replace_oldest(record)
        elif policy == "block" and threading.get_ident() != self.taker:
            self._wait_for_room(record)
        else:
            self._refused["queue_full"].add()

    def _replace_oldest(self, record: tuple[Any, ...]) -> None:
        if not self._lock.acquire(blocking=False):
            self._refused["queue_full"].add()
            return
        try:
            if len(self.flat) >= self.limit:
                del self.flat[:WIDTH]
                self._taken += 1
                self._drop("oldest", 1)
            self.flat.extend(record)
        finally:
            self._lock.release()

    def _wait_for_room(self, record: tuple[Any, ...]) -> None:
        if self.pressed is not None:
            self.pressed()
        # The lock is free within microseconds, unless a finaliser that ends a span runs in the
        # very thread that holds it: then waiting would be for ever.
        if not self._lock.acquire(timeout=1.0):
            self._refused["queue_full"].add()
            return
        try:
            while len(self.flat) >= self.limit and not self.closed:
                self._room.wait(1.0)  # bounded, so that a writer that died hangs nobody unseen
            if self.closed:
                self._refused["closed"].add()
            else:
                self.flat.extend(record)
        finally:
            self._lock.release()

    # --- the writer's side --------------------------------------------------------------

    def __len__(self) -> int:
        """How many spans wait."""
        return len(self.flat) // WIDTH

    @property
    def passed(self) -> int:
        """Spans that came in so far, read without the lock: right but for an instant."""
        return self._taken + len(self.flat) // WIDTH

    def take(self, most: int) -> Flat:
        """Up to `most` of the spans that have waited longest; they are in flight until settled."""
        with self._lock:
            chunk = self.flat[: most * WIDTH]
            # In this order `passed` never reads too little.
            self._taken += len(chunk) // WIDTH
            del self.flat[: len(chunk)]
            self._room.notify_all()
        return chunk

    def settle(
        self,
        *,
        written: int = 0,
        dropped: Mapping[str, int] | None = None,
        lost: Mapping[str, int] | None = None,
    ) -> None:
        """Say what became of spans that were taken; reasons are of ledger.DROP_REASONS.

        `lost` spans had been settled as written and are gone since (journal_limit): in the
        books they move from written to dropped.
        """
        with self._lock:
            self._written += written
            for reason, spans in (dropped or {}).items():
                self._drop(reason, spans)
            for reason, spans in (lost or {}).items():
                self._written -= spans
                self._drop(reason, spans)

    def _drop(self, reason: str, spans: int) -> None:
        if spans:
            self._settled_dropped[reason] = self._settled_dropped.get(reason, 0) + spans

    def changed(self, kind: str, times: int) -> None:
        """Count what cleaning changed, in any thread; kinds are of ledger.CHANGE_KINDS."""
        add = self._changed[kind].add
        for _ in range(times):
            add()

    def close(self) -> None:
        """From now on every put is refused as `closed`; what waits can still be taken."""
        with self._lock:
            self.closed = True
            self._set_limit(0)
            self._room.notify_all()

    def end(self) -> None:
        """Nobody will take any more: what waits, now or later, is dropped as `closed`.

        A producer that had looked at the limit just before close() may still extend the queue
        just after the writer's last look.
        """
        self.close()
        with self._lock:
            self._ended = True
            self._sweep()

    def _sweep(self) -> None:
        spans = len(self.flat) // WIDTH
        del self.flat[: spans * WIDTH]
        self._taken += spans
        self._drop("closed", spans)

    def ledger(self, *, about_to_write: int = 0) -> Ledger:
        """The books now, or as they will stand when `about_to_write` taken spans are written."""
        with self._lock:
            if self._ended:
                self._sweep()
            refused = {reason: tally.value for reason, tally in self._refused.items()}
            waiting = len(self.flat) // WIDTH
            dropped = dict(self._settled_dropped)
            written = self._written + about_to_write
            in_flight = self._taken + waiting - written - sum(dropped.values())
            for reason, spans in refused.items():
                if spans:
                    dropped[reason] = dropped.get(reason, 0) + spans
            return Ledger(
                recorded=self._taken + waiting + sum(refused.values()),
                written=written,
                dropped=dropped,
                in_flight=in_flight,
                not_recorded={r: n for r, t in self.not_recorded.items() if (n := t.value)},
                changed={kind: n for kind, t in self._changed.items() if (n := t.value)},
            )
