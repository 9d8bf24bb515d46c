"""Looking at what is due, sealing it, and reading what is sealed.

What is sealed does not change: entries [0, n) of a list, at the stored time. So another owner that
takes it over reads the same and decides the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from secrets import randbits
from typing import Any, Final, NamedTuple

from afterglow.assembly import Entry, Tree, plan_whole, remember
from afterglow.buffer.codec import (
    INLINE,
    Record,
    Stored,
    edges_end,
    parse,
    parse_records,
    parse_reference,
)
from afterglow.buffer.dictionaries import Dictionaries
from afterglow.buffer.kept_trees import FIRST_BYTES, KeptTree, KeptTrees
from afterglow.buffer.keys import Keys, trace_of
from afterglow.buffer.layouts import ChunkReader
from afterglow.buffer.leases import Lease
from afterglow.buffer.routing import Command, Router, command, evalsha, slot_of
from afterglow.buffer.squeeze import Squeezer
from afterglow.config.buffer import BufferConfig
from afterglow.model.segment import Fence

__all__ = ["Due", "Prepared", "Sealed", "Sealer"]

#: A seal call reads about so many spans, and so many traces and entries of each at most.
_CALL_SPANS: Final = 2_000
_CALL_TRACES: Final = 128
_ENTRIES: Final = 256
_PAGE_ENTRIES: Final = 64
_PAGE_COMMANDS: Final = 64
_TOKEN_BITS: Final = 52
_GET: Final = 32 << 20


class Due(NamedTuple):
    """A trace to look at, and how many spans it holds."""

    bucket: int
    name: bytes
    n_spans: int


class Prepared(NamedTuple):
    """A trace whose parts are all safe, and whose owner died before it was settled."""

    bucket: int
    name: bytes
    fence: Fence
    total: int
    chunks: tuple[bytes, ...]


class Sealed(NamedTuple):
    """What a seal call answered for one trace. `entries` are those from `known` on, not all.

    `kept` is a tree of the entries before.
    """

    due: Due
    fence: Fence
    n_sealed: int
    sealed_ns: int
    acknowledged: set[int]
    settlement: Any
    roots: bytes | None
    known: int
    entries: list[bytes]
    kept: KeptTree | None


class Sealer:
    """Seals traces and makes leases of them; safe in many threads."""

    def __init__(
        self,
        router: Router,
        keys: Keys,
        config: BufferConfig,
        squeezer: Squeezer,
        dictionaries: Dictionaries,
        replicas: int,
    ) -> None:
        self._router = router
        self._squeezer = squeezer
        self._dictionaries = dictionaries
        self._keys = keys
        self._config = config
        self._replicas = replicas
        self._slots = [slot_of(key) for key in keys.queue]
        self._ttl_s = max(round(config.ttl_s), 1)
        self._kept = KeptTrees()
        self._tombstone_ns = round(config.tombstone_s * 1e9)

    def look(self, buckets: Sequence[int], now_us: int, limit: int) -> list[Due]:
        """What is to be looked at now, at most `limit` traces of each bucket."""
        keys = self._keys
        answers = self._run(
            evalsha(
                self._slots[bucket],
                "due",
                (keys.queue[bucket], keys.counts[bucket]),
                (now_us, limit),
            )
            for bucket in buckets
        )
        return [
            Due(bucket, name, int(count or 0))
            for bucket, (names, counts) in zip(buckets, answers, strict=True)
            for name, count in zip(names, counts, strict=True)
        ]

    def seal(self, due: Sequence[Due], now_ns: int, owner: str) -> list[Sealed]:
        """Seal these traces; those that another has are left out."""
        calls = list(_calls(due))
        lease_us = (now_ns + round(self._config.lease_s * 1e9)) // 1_000
        tokens = [randbits(_TOKEN_BITS) for _ in calls]
        kept = [[self._kept.take(one.name) for one in call] for call in calls]
        answers = self._run(
            (
                self._seal_call(call, trees, now_ns, owner, token, lease_us)
                for call, trees, token in zip(calls, kept, tokens, strict=True)
            ),
            self._replicas,
        )
        return [
            _sealed(one, tree, owner, token, found)
            for call, trees, token, answer in zip(calls, kept, tokens, answers, strict=True)
            for one, tree, found in zip(call, trees, answer, strict=True)
            if found is not None
        ]

    def _seal_call(
        self,
        call: Sequence[Due],
        kept: Sequence[KeptTree | None],
        now_ns: int,
        owner: str,
        token: int,
        lease_us: int,
    ) -> Command:
        bucket = call[0].bucket
        keys = self._keys
        names = [keys.queue[bucket], keys.owners[bucket], keys.counts[bucket], keys.books[bucket]]
        entries = _ENTRIES if len(call) > 1 or call[0].n_spans <= _CALL_SPANS else _PAGE_ENTRIES
        words: list[Any] = [now_ns // 1_000, now_ns, owner, token, lease_us, self._ttl_s, entries]
        for due, tree in zip(call, kept, strict=True):
            names += (keys.members[bucket] + due.name, keys.roots[bucket] + due.name)
            words += (due.name, len(tree.tree.entries), tree.first) if tree else (due.name, 0, b"")
        return evalsha(self._slots[bucket], "seal", names, words)

    def lease(self, sealed: Sequence[Sealed], reader: ChunkReader, whole: bool) -> list[Lease]:
        """Read what is sealed, and plan it. `whole`: payloads too, not edges alone."""
        sealed = [
            one
            if one.kept or not one.known
            else one._replace(known=0, entries=self._members(one, 0, one.known) + one.entries)
            for one in sealed
        ]
        stored = [
            [
                parse(member)
                for member in chain(
                    one.entries, self._members(one, one.known + len(one.entries), one.n_sealed)
                )
            ]
            for one in sealed
        ]
        self.read_chunks(
            [
                (one.due.name, entries, at)
                for one, entries in zip(sealed, stored, strict=True)
                for at, entry in enumerate(entries)
                if entry.places != INLINE
            ],
            reader,
            whole,
        )
        self._read_dictionaries(sealed, stored)
        return [
            self._planned(one, entries, reader) for one, entries in zip(sealed, stored, strict=True)
        ]

    def keep(self, lease: Lease) -> None:
        """Nothing of a lease is due, and it was given up: its tree may serve the next look."""
        if lease.kept is not None and not lease.lost and lease.plan.left:
            self._kept.keep(lease.name, lease.kept)

    def _read_dictionaries(self, sealed: Sequence[Sealed], stored: Sequence[list[Stored]]) -> None:
        """Know every dictionary that is needed; what cannot be read without is as good as gone."""
        knows = self._squeezer.knows
        used = [
            (one.due.bucket, entries, at)
            for one, entries in zip(sealed, stored, strict=True)
            for at, entry in enumerate(entries)
            if entry.dictionary and not knows(entry.dictionary)
        ]
        if used:
            self._dictionaries.fetch(
                (bucket, entries[at].dictionary) for bucket, entries, at in used
            )
        for _, entries, at in used:
            if not knows(entries[at].dictionary):
                entries[at] = entries[at]._replace(entry=None)

    def _planned(self, sealed: Sealed, stored: list[Stored], reader: ChunkReader) -> Lease:
        project, trace_id = trace_of(sealed.due.name)
        kept = sealed.kept
        remembered: dict[int, int] = {}
        known: set[bytes] = set()
        until_ns = 1 << 100
        for record in self._records(sealed):
            if record.generation == sealed.fence.generation:
                continue
            known |= record.chunks
            record_until_ns = record.time_ns + self._tombstone_ns
            if kept is None and record.span_ids and record_until_ns > sealed.sealed_ns:
                until_ns = min(until_ns, record_until_ns)
                remember(remembered, record.root_span_id, record.root_span_id + record.span_ids)
        lost = {True: 0, False: 0}
        entries = []
        for number, one in enumerate(stored):
            entry = one.entry
            if entry is None:
                lost[one.chunk in known] += one.n_left
                entry = _nothing(one)
                stored[number] = one._replace(entry=entry)
            entries.append(entry)
        if kept is None and not remembered and not lost[True] + lost[False]:
            whole = plan_whole((project, trace_id), entries, sealed.sealed_ns, self._config)
            if whole is not None:
                return Lease(
                    sealed.due.bucket, sealed.due.name, project, trace_id, sealed.fence,
                    sealed.n_sealed, sealed.sealed_ns, reader, stored, whole,
                    acknowledged=sealed.acknowledged,
                )  # fmt: skip
        if kept is None:
            first = stored[0].raw[:FIRST_BYTES] if stored else b""
            tree = Tree(project, trace_id, self._config, remembered)
            kept = KeptTree(first, sealed.roots, until_ns, tree, [])
        kept.tree.extend(entries)
        plan = kept.tree.plan(sealed.sealed_ns)
        kept = kept._replace(duplicates=kept.duplicates + plan.duplicates)
        plan = plan._replace(duplicates=kept.duplicates)
        lease = Lease(
            sealed.due.bucket, sealed.due.name, project, trace_id, sealed.fence, sealed.n_sealed,
            sealed.sealed_ns, reader, stored, plan, lost[True], lost[False], sealed.acknowledged,
            kept,
        )  # fmt: skip
        if sealed.known and not lease.is_idle:
            lease.stored = self._before(sealed, kept.tree) + stored
        return lease

    def _before(self, sealed: Sealed, tree: Tree) -> list[Stored]:
        """The entries that a kept tree stood for, read again because something of them goes out."""
        members = self._members(sealed, 0, sealed.known)
        before = [
            parse(member)._replace(entry=entry)
            for member, entry in zip(members, tree.entries, strict=False)
        ]
        self._read_dictionaries([sealed], [before])
        return before

    def _members(self, sealed: Sealed, begin: int, end: int) -> list[bytes]:
        """Some of the sealed entries, by pages."""
        members: list[bytes] = []
        key = self._keys.members[sealed.due.bucket] + sealed.due.name
        begins = range(begin, end, _PAGE_ENTRIES)
        for at in range(0, len(begins), _PAGE_COMMANDS):
            pages = self._run(
                command(key, b"LRANGE", key, begin, min(begin + _PAGE_ENTRIES, end) - 1)
                for begin in begins[at : at + _PAGE_COMMANDS]
            )
            for page in pages:
                members += page
        return members

    def _records(self, sealed: Sealed) -> list[Record]:
        if not sealed.roots:
            return []
        records = parse_records(sealed.roots[1:])
        if sealed.roots[:1] == b"1":
            key = self._keys.more_roots[sealed.due.bucket] + sealed.due.name
            begin = 0
            while True:
                (page,) = self._run([command(key, b"LRANGE", key, begin, begin + 7)])
                for more in page:
                    records += parse_records(more)
                if len(page) < 8:
                    break
                begin += 8
        return records

    def read_chunks(
        self,
        wanted: Sequence[tuple[bytes, list[Stored], int]],
        reader: ChunkReader,
        whole: bool,
    ) -> None:
        """Read chunks of entries, each (trace, its entries, number), into those lists.

        From the layout that the reader prefers, else from the other that has it. A chunk that
        is nowhere leaves its entry as it was.
        """
        attempt = 0
        while wanted:
            missing = []
            for batch in _batches(wanted, whole):
                calls = []
                for name, entries, at in batch:
                    stored = entries[at]
                    keys = reader.keys(stored.places, name, stored.chunk)
                    key = keys[min(attempt, len(keys) - 1)]
                    if whole:
                        calls.append(command(key, b"GET", key))
                    else:
                        calls.append(command(key, b"GETRANGE", key, 0, edges_end(stored) - 1))
                for (name, entries, at), chunk in zip(batch, self._run(calls), strict=True):
                    if chunk:
                        full = parse_reference(entries[at], chunk)
                        entries[at] = full if whole else full._replace(blob=None)
                    elif attempt == 0 and len(reader.keys(entries[at].places, b"", b"")) > 1:
                        missing.append((name, entries, at))
            wanted = missing
            attempt += 1

    def _run(self, commands: Iterable[Command], replicas: int = 0) -> list[Any]:
        return self._router.sure(list(commands), replicas)


def _calls(due: Iterable[Due]) -> Iterable[list[Due]]:
    """The traces of one bucket in calls that do not read too much."""
    by_bucket: dict[int, list[Due]] = {}
    for one in due:
        by_bucket.setdefault(one.bucket, []).append(one)
    for traces in by_bucket.values():
        call: list[Due] = []
        spans = 0
        for one in traces:
            if call and (spans + one.n_spans > _CALL_SPANS or len(call) >= _CALL_TRACES):
                yield call
                call, spans = [], 0
            call.append(one)
            spans += one.n_spans
        yield call


def _sealed(due: Due, kept: KeptTree | None, owner: str, token: int, found: list[Any]) -> Sealed:
    generation, n_sealed, sealed_ns, acknowledged, settlement, roots, known, entries = found
    fits = (
        kept is not None
        and known > 0
        and int(generation) == token
        and kept.roots == (roots or None)
        and int(sealed_ns) < kept.until_ns
    )
    return Sealed(
        due,
        Fence(owner, token, int(generation)),
        n_sealed,
        int(sealed_ns),
        {int(index) for index in acknowledged.split(b",") if index},
        settlement,
        roots or None,
        known,
        entries,
        kept if fits else None,
    )


def _nothing(stored: Stored) -> Entry:
    """An entry of which no span is there."""
    return Entry(stored.time_ns, b"", b"", b"", (), ())


def _batches(
    wanted: Sequence[tuple[bytes, list[Stored], int]], whole: bool
) -> Iterable[Sequence[tuple[bytes, list[Stored], int]]]:
    """As many chunks at once as are fetched in one go."""
    size = 128 if whole else 512
    for at in range(0, len(wanted), size):
        yield wanted[at : at + size]
