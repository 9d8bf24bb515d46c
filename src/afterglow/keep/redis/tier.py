"""The hot tier itself: take copies, fill them in, mark them as changed; or rest, when Redis is
away. It never raises for what Redis does: whoever asks has PostgreSQL."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import redis

from afterglow.clock import Clock
from afterglow.keep.redis.copies import Copy, decoded, encoded, mark
from afterglow.keep.redis.keys import BUCKETS, Bucket, bucketed
from afterglow.keep.redis.nodes import Nodes, Script
from afterglow.ledger import HOT_COUNTERS, HotCounter

__all__ = ["HotTier"]

T = TypeVar("T")
#: Keys of one slot, and arguments.
_Calls: TypeAlias = Sequence[tuple[Sequence[bytes], Sequence[Any]]]

_SECOND_NS = 1_000_000_000
#: A mark outlives every reader that may still fill in what was before it (see hot.py).
_MARK_MS = 60_000
_LONGEST_REST_S = 8
_REPORT_NS = 60 * _SECOND_NS
#: Larger entries stay in PostgreSQL alone: a node of Redis does one thing at a time.
_LARGEST_BYTES = 1 << 20
#: So many of a bucket's oldest entries make room when Redis is full.
_ROOM = 64


class HotTier:
    """Copies of the entries of one database (`identity`) in the Redis at `url`.

    `report` gets one line a minute at most. Raises SettingError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        identity: str,
        *,
        ttl_s: float,
        timeout_s: float,
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._identity = identity.replace("-", "")[:16]
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._clock = clock
        self._report = report
        self._lock = threading.Lock()
        self._servers: dict[str, str] = {}
        self._rest_s = 0
        self._resting_until_ns = 0
        self._said_ns: int | None = None
        self.counted: Counter[HotCounter] = Counter()
        #: Something happened after which copies may be there that were marked as changed.
        self.suspect = False
        self._nodes = Nodes(url, timeout_s=timeout_s, connected=self._connected)
        self._fill, self._mark = Script("fill"), Script("mark")

    @property
    def resting(self) -> bool:
        """Whether Redis was away a moment ago, and is not asked for now."""
        return self._clock.monotonic_ns() < self._resting_until_ns

    def answers(self) -> bool:
        """Whether all of Redis answers now."""
        return self._tried(self._ping, False)

    def take(
        self, partition_id: int, epoch: int, ids: Sequence[str]
    ) -> tuple[dict[str, Copy], bool]:
        """Copies that are right in `epoch`; and whether one was of a later epoch."""
        if self.resting:
            self._count("hot_resting", len(ids))
            return {}, False
        nothing: dict[str, bytes] = {}
        found = self._tried(lambda: self._values(partition_id, ids), nothing)
        copies: dict[str, Copy] = {}
        later = False
        for trace_id, value in found.items():
            try:
                of_epoch, copy = decoded(value)
            except (ValueError, TypeError) as error:
                self.trouble(error)
                continue
            later = later or of_epoch > epoch
            if copy is not None and of_epoch == epoch and copy.record.trace_id == trace_id:
                copies[trace_id] = copy
        self._count("hot_hits", len(copies))
        self._count("hot_misses", len(ids) - len(copies))
        return copies, later

    def fill(self, partition_id: int, version: int, epoch: int, copies: Mapping[str, Copy]) -> None:
        """Keep copies that were right at `version`, for the time to live."""
        values = {
            trace_id: value
            for trace_id, copy in copies.items()
            if len(value := encoded(copy, version, epoch)) <= _LARGEST_BYTES
        }
        if not values or self.resting:
            return
        calls = [
            (
                [bucket.index, *(bucket.entry(i) for i in ids)],
                [self._ttl_ms, version, *(values[i] for i in ids)],
            )
            for bucket, ids in bucketed(self._identity, partition_id, values)
        ]
        filled = self._run(self._fill, calls, partition_id)
        self._count("hot_fills", filled)
        self._count("hot_stale", len(values) - filled)

    def mark(self, partition_id: int, version: int, epoch: int, ids: Sequence[str]) -> bool:
        """Entries change with `version`: no copy of before is right. False: could not say so."""
        if not ids:
            return True
        if self.resting:
            self._count("hot_resting", len(ids))
            return False
        calls = [
            ([bucket.entry(i) for i in some], [_MARK_MS, version, mark(version, epoch)])
            for bucket, some in bucketed(self._identity, partition_id, ids)
        ]
        marked = self._run(self._mark, calls, partition_id)
        self._count("hot_marks", marked)
        return marked == len(ids)

    def trouble(self, error: BaseException) -> None:
        """Note that Redis did not do its part: rest, longer each time, and say so."""
        with self._lock:
            self.counted["hot_troubles"] += 1
            self.suspect = True
            self._rest_s = min(_LONGEST_REST_S, self._rest_s * 2 or 1)
            now = self._clock.monotonic_ns()
            self._resting_until_ns = now + self._rest_s * _SECOND_NS
            if self._said_ns is not None and now - self._said_ns < _REPORT_NS:
                return
            self._said_ns = now
        reason = " ".join(str(error).split()) or type(error).__name__
        self._report(
            f"the hot tier in Redis at {self._nodes.place} is of no help ({reason}); the trace "
            "store goes on from PostgreSQL, slower"
        )

    def counters(self) -> dict[str, int]:
        """What it did so far (docs/ledger.md)."""
        return {name: self.counted[name] for name in HOT_COUNTERS}

    def close(self) -> None:
        """Give the connections back."""
        self._nodes.close()

    def after_fork(self) -> None:
        """In a forked child: nobody is within the lock."""
        self._lock = threading.Lock()

    # --- asking ---------------------------------------------------------------------------

    def _tried(self, work: Callable[[], T], otherwise: T) -> T:
        try:
            result = work()
        except (redis.RedisError, OSError) as error:
            self.trouble(error)
            self._nodes.relearn()
            return otherwise
        self._rest_s = 0
        return result

    def _ping(self) -> bool:
        self._nodes.ping()
        return True

    def _values(self, partition_id: int, ids: Sequence[str]) -> dict[str, bytes]:
        groups = bucketed(self._identity, partition_id, ids)
        commands = []
        for bucket, some in groups:
            keys = [bucket.entry(i) for i in some]
            commands.append((keys[0], ("MGET", *keys)))
        values: dict[str, bytes] = {}
        for (_, some), answer in zip(groups, _raised(self._nodes.ask(commands)), strict=True):
            values.update((i, v) for i, v in zip(some, answer, strict=True) if v is not None)
        return values

    def _run(self, script: Script, calls: _Calls, partition_id: int) -> int:
        """The sum of a script's answers; 0 if there was trouble."""
        return self._tried(lambda: sum(self._with_room(script, calls, partition_id)), 0)

    def _with_room(self, script: Script, calls: _Calls, partition_id: int) -> list[int]:
        """Run a script; where Redis is full, remove the oldest entries and run it once more."""
        answers = self._nodes.run(script, calls)
        full = [place for place, answer in enumerate(answers) if _is_full(answer)]
        if full:
            self._make_room(partition_id)
            again = self._nodes.run(script, [calls[place] for place in full])
            for place, answer in zip(full, again, strict=True):
                answers[place] = answer
        return _raised(answers)

    def _make_room(self, partition_id: int) -> None:
        """Remove the entries of the partition that were filled in first."""
        indexes = [Bucket(self._identity, partition_id, n).index for n in range(BUCKETS)]
        popped = _raised(self._nodes.ask([(i, ("ZPOPMIN", i, _ROOM)) for i in indexes]))
        commands = []
        for answer in popped:
            keys = [key for key, _ in answer]
            if keys:
                commands.append((keys[0], ("UNLINK", *keys)))
        self._count("hot_room", sum(_raised(self._nodes.ask(commands))))

    def _count(self, name: HotCounter, number: int) -> None:
        with self._lock:
            self.counted[name] += number

    def _connected(self, address: str, run_id: str) -> None:
        # Another start of a server may have forgotten marks, or come back with what was before.
        before = self._servers.get(address)
        self._servers[address] = run_id
        if before is not None and before != run_id:
            self.suspect = True


def _is_full(answer: Any) -> bool:
    return isinstance(answer, redis.exceptions.OutOfMemoryError)


def _raised(answers: list[Any]) -> list[Any]:
    """The answers, if none is an error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
