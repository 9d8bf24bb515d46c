"""Acknowledging, releasing and settling what was sealed.

A trace of which all is inline is settled in the same script that marks its last part. Where
payloads lie under keys of their own: the script remembers the settlement, then the payloads
are removed, then a second script settles. So whoever comes after a crash finds either parts to
deliver, or a settlement to finish.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from afterglow.assembly import ids_of_pieces
from afterglow.buffer.codec import encode_record
from afterglow.buffer.keys import Keys
from afterglow.buffer.leases import Lease
from afterglow.buffer.routing import Command, Router, command, evalsha, slot_of
from afterglow.buffer.sealing import Prepared
from afterglow.config.buffer import BufferConfig
from afterglow.ledger import BufferDropReason

__all__ = ["Settler"]

MARK_ONLY, SETTLE, PREPARE, FINISH = 0, 1, 2, 3
_NOT_OURS, _MORE, _SETTLED, _PREPARED, _UNSETTLED = -1, 0, 1, 2, 3
#: A call carries about so much, and so many traces at most.
_CALL_BYTES: Final = 1 << 20
_CALL_TRACES: Final = 128
_UNLINK_KEYS: Final = 256
#: Tombstones live a little longer than they count, for the clock of Redis is not the caller's.
_ROOTS_SLACK_S: Final = 60.0


class _Turn(NamedTuple):
    """What a call says of one trace."""

    bucket: int
    name: bytes
    words: list[Any]
    n_bytes: int


class Settler:
    """Ends leases; keeps nothing between two calls."""

    def __init__(self, router: Router, keys: Keys, config: BufferConfig, replicas: int) -> None:
        self._router = router
        self._keys = keys
        self._replicas = replicas
        self._slots = [slot_of(key) for key in keys.queue]
        self._ttl_s = max(round(config.ttl_s), 1)
        self._roots_ttl_ms = round((config.tombstone_s + _ROOTS_SLACK_S) * 1_000)

    def acknowledge(
        self, parts: Sequence[tuple[Lease, Sequence[str]]], dropped: BufferDropReason | None
    ) -> int:
        """These parts (message ids, by lease) are safe. Returns how many were still ours."""
        ours = 0
        turns = []
        leases = []
        for lease, message_ids in parts:
            indexes = sorted({lease.index_of[message_id] for message_id in message_ids})
            with lease.lock:
                done = len(lease.acknowledged.union(indexes)) >= lease.total
            turns.append(self._turn(lease, indexes, dropped, done))
            leases.append(lease)
        outcomes = self._call(turns)
        again = []
        for (lease, message_ids), (outcome, n_ours) in zip(parts, outcomes, strict=True):
            ours += n_ours
            if n_ours:
                with lease.lock:
                    lease.acknowledged.update(lease.index_of[one] for one in message_ids)
            if outcome == _UNSETTLED:
                again.append(lease)
        prepared = [
            lease for lease, (how, _) in zip(leases, outcomes, strict=True) if how == _PREPARED
        ]
        if again:  # two threads acknowledged the last two parts, and neither knew of the other
            found = self._call([self._turn(lease, [], None, True) for lease in again])
            prepared += [
                lease for lease, (how, _) in zip(again, found, strict=True) if how == _PREPARED
            ]
        if prepared:
            self.finish([_prepared(lease) for lease in prepared])
        return ours

    def settle(self, leases: Sequence[Lease]) -> None:
        """Nothing of these is due (any more): settle them without a part."""
        self.acknowledge([(lease, ()) for lease in leases], None)

    def unseal(self, leases: Sequence[Lease]) -> None:
        """Nothing of these was given out: as if they had never been sealed, but due at once."""
        self._call(
            [
                _Turn(
                    lease.bucket,
                    lease.name,
                    [lease.name, lease.fence.token, b"", 0, SETTLE, 0, 0, 0, 0, 0, b"", 0],
                    64,
                )
                for lease in leases
            ]
        )

    def finish(self, prepared: Sequence[Prepared]) -> None:
        """Remove the payloads of prepared settlements, then settle."""
        unlinks = [unlink for one in prepared for unlink in self._unlinks(one)]
        for at in range(0, len(unlinks), 2_000):
            self._run(unlinks[at : at + 2_000])
        self._call(
            [
                _Turn(
                    one.bucket, one.name, [one.name, one.fence.token, b"", one.total, FINISH, 0], 64
                )
                for one in prepared
            ]
        )

    def _unlinks(self, one: Prepared) -> Iterator[Command]:
        """Chunks leave both layouts, whatever their entries say.

        An `add` that was refused before its entries were there may have been repeated in another
        phase of the rollout: then the other layout has the chunk, too, and no entry says so.
        """
        for chunk in one.chunks:
            key = self._keys.distributed(one.name, chunk)
            yield command(key, b"UNLINK", key)
        for at in range(0, len(one.chunks), _UNLINK_KEYS):
            keys = [
                self._keys.colocated(one.name, chunk)
                for chunk in one.chunks[at : at + _UNLINK_KEYS]
            ]  # all in the slot of their trace
            yield command(keys[0], b"UNLINK", *keys)

    def release(self, leases: Iterable[Lease]) -> None:
        """Give leases back."""
        by_bucket: dict[int, list[Any]] = {}
        for lease in leases:
            by_bucket.setdefault(lease.bucket, []).extend((lease.name, lease.fence.token))
        self._run(
            evalsha(
                self._slots[bucket],
                "release",
                (self._keys.queue[bucket], self._keys.owners[bucket]),
                words,
            )
            for bucket, words in by_bucket.items()
        )

    def _turn(
        self, lease: Lease, indexes: Sequence[int], dropped: BufferDropReason | None, done: bool
    ) -> _Turn:
        words: list[Any] = [lease.name, lease.fence.token, dropped or b"", lease.total]
        settlement = lease.settlement() if done else None
        how = MARK_ONLY if settlement is None else PREPARE if settlement.chunks else SETTLE
        words += (how, len(indexes))
        n_bytes = 0
        wanted = set(indexes)
        entries = [stored.entry for stored in lease.stored]
        fence = (lease.fence.generation, lease.fence.token)
        if wanted:
            index = 0
            for segment in lease.plan.segments:
                for part in segment.parts:
                    if index in wanted:
                        ids = ids_of_pieces(part.pieces, entries)
                        record = encode_record(fence, lease.sealed_ns, segment.root_span_id, ids)
                        words += (index, part.n_spans, record)
                        n_bytes += len(record)
                    index += 1
        if settlement is not None:
            taken, duplicates, expired, next_us, record, back, _ = settlement
            words += (taken, duplicates, expired, b"" if next_us is None else next_us, record)
            words.append(len(back))
            words += back
            n_bytes += len(record) + sum(map(len, back))
        return _Turn(lease.bucket, lease.name, words, n_bytes)

    def _call(self, turns: Sequence[_Turn]) -> list[tuple[int, int]]:
        """Outcome and parts that were ours, for each trace, in order."""
        calls = []
        order: list[list[int]] = []
        for bucket, numbers in _grouped(turns):
            keys = self._keys
            names = [
                keys.queue[bucket], keys.owners[bucket], keys.counts[bucket], keys.books[bucket]
            ]  # fmt: skip
            words: list[Any] = [self._ttl_s, self._roots_ttl_ms]
            for number in numbers:
                turn = turns[number]
                names += (
                    keys.members[bucket] + turn.name,
                    keys.roots[bucket] + turn.name,
                    keys.more_roots[bucket] + turn.name,
                )
                words += turn.words
            calls.append(evalsha(self._slots[bucket], "acknowledge", names, words))
            order.append(numbers)
        outcomes: list[tuple[int, int]] = [(_NOT_OURS, 0)] * len(turns)
        for numbers, answer in zip(order, self._run(calls, self._replicas), strict=True):
            for number, (outcome, ours) in zip(numbers, answer, strict=True):
                outcomes[number] = (outcome, ours)
        return outcomes

    def _run(self, commands: Iterable[Command], replicas: int = 0) -> list[Any]:
        return self._router.sure(list(commands), replicas)


def _prepared(lease: Lease) -> Prepared:
    chunks = lease.settlement().chunks
    return Prepared(lease.bucket, lease.name, lease.fence, lease.total, chunks)


def _grouped(turns: Sequence[_Turn]) -> Iterable[tuple[int, list[int]]]:
    """Numbers of turns, in calls of one bucket each that are not too large."""
    by_bucket: dict[int, list[int]] = {}
    for number, turn in enumerate(turns):
        by_bucket.setdefault(turn.bucket, []).append(number)
    for bucket, numbers in by_bucket.items():
        call: list[int] = []
        n_bytes = 0
        for number in numbers:
            size = turns[number].n_bytes
            if call and (n_bytes + size > _CALL_BYTES or len(call) >= _CALL_TRACES):
                yield bucket, call
                call, n_bytes = [], 0
            call.append(number)
            n_bytes += size
        yield bucket, call
