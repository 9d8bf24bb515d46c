"""`afterglow buffer check`: keys without TTL or owner, traces that nobody looks at, and more."""

from __future__ import annotations

from binascii import unhexlify
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from afterglow.buffer.connect import Nodes, saying_so
from afterglow.buffer.control_keys import ControlKeys
from afterglow.buffer.inspect import SCAN, BufferStats, Inspector, in_lots, literal
from afterglow.buffer.keys import BUCKETS, Keys, bucket_of
from afterglow.config import BufferConfig

__all__ = ["Problem", "check"]

#: A payload is written before what refers to it: it is looked at once it is so old.
_YOUNG_S: Final = 60
_LATE_S: Final = 60.0
_EXAMPLES: Final = 3
#: The kinds of keys of docs/redis-keys.md that have a TTL, by the word behind the prefix.
_KINDS: Final = frozenset({b"q", b"n", b"own", b"mk", b"ssr", b"ssm", b"s", b"zd"})

_NO_OWNER: Final = "keys that no part of Afterglow owns"
_NO_TTL: Final = "keys without a TTL"
_ORPHANS: Final = "payloads that nothing refers to"
_WHAT_TO_DO: Final = {
    _NO_OWNER: "somebody else uses our prefix, or another version wrote them: give one of the two "
    "another key_prefix, or delete them",
    _NO_TTL: "no version of ours writes them so: see who does (MONITOR), then delete them or give "
    "them one (EXPIRE)",
    _ORPHANS: "their batch was refused and not repeated, or a process died in it: their TTL "
    "(2 x ttl_s) removes them; delete them to have the memory now",
}


class Problem(msgspec.Struct, frozen=True):
    """One kind of thing that is wrong: how often, some examples, and what to do."""

    kind: str
    count: int
    examples: tuple[str, ...]
    what_to_do: str


def check(nodes: Nodes, config: BufferConfig, now_ns: int) -> list[Problem]:
    """Everything that is not as docs/redis-keys.md says; [] for nothing."""
    stats = Inspector(nodes, config).stats(now_ns)
    with saying_so(nodes.address):
        keys = _Keys(nodes, config)
        found = keys.problems()
        found += _unqueued(nodes, keys.keys)
    return [*_servers(stats), *_books(stats), *_late(stats), *found]


class _Keys:
    """One walk over all keys of the buffer, on each master."""

    def __init__(self, nodes: Nodes, config: BufferConfig) -> None:
        self._nodes = nodes
        self.keys = Keys(config.key_prefix)
        self._start = self.keys.prefix + b":"
        self._control = ControlKeys(config.key_prefix).prefix.encode()
        self._chunk_ttl_s = 2 * round(config.ttl_s)
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def problems(self) -> list[Problem]:
        pattern = literal(self._start) + b"*"
        for _, client in self._nodes.masters():
            for some in in_lots(client.scan_iter(pattern, SCAN), 500):
                self._look(client, some)
        return [
            Problem(kind, count, tuple(self._examples[kind]), _WHAT_TO_DO[kind])
            for kind, count in sorted(self._counts.items())
        ]

    def _look(self, client: Any, some: list[bytes]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for key in some:
                pipeline.ttl(key)
            ttls = pipeline.execute()
        chunks = []
        for key, ttl in zip(some, ttls, strict=True):
            kind = key[len(self._start) :].partition(b":")[0]
            if ttl == -2:
                continue  # gone since
            if kind == b"s":
                if ttl <= self._chunk_ttl_s - _YOUNG_S:
                    chunks.append(key)
            elif kind not in _KINDS and kind != b"ctl":
                self._note(_NO_OWNER, key)
            if ttl == -1 and kind != b"ctl":
                self._note(_NO_TTL, key)
        self._orphans(chunks)

    def _orphans(self, chunks: list[bytes]) -> None:
        """Payloads of traces of which nothing is in the index."""
        lists = [self._list_of(key) for key in chunks]
        with self._nodes.client.pipeline(transaction=False) as pipeline:
            for name in lists:
                pipeline.exists(name)
            there = pipeline.execute() if lists else []
        for key, is_there in zip(chunks, there, strict=True):
            if not is_there:
                self._note(_ORPHANS, key)

    def _list_of(self, chunk: bytes) -> bytes:
        """The list of entries of a chunk's trace: `s:{name}:chunk`, or `s:{name:chunk}:chunk`."""
        tag, _, chunk_id = chunk[len(self._start) + 3 :].rpartition(b"}:")
        name = tag.removesuffix(b":" + chunk_id)
        project, _, trace_id = name.rpartition(b":")
        try:
            bucket = bucket_of(project, unhexlify(trace_id))
        except ValueError:
            return chunk + b":of nobody"
        return self.keys.members[bucket] + name

    def _note(self, kind: str, key: bytes) -> None:
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(key.decode("utf-8", "backslashreplace"))


def _unqueued(nodes: Nodes, keys: Keys) -> list[Problem]:
    """Traces that hold spans and are in no queue: nobody would ever look at them."""
    lost: list[str] = []
    for bucket in range(BUCKETS):
        for _ in range(2):  # one that was just being added is there at the second look
            held = {name for name, _ in nodes.client.hscan_iter(keys.counts[bucket], count=SCAN)}
            queued = {name for name, _ in nodes.client.zscan_iter(keys.queue[bucket], count=SCAN)}
            missing = held - queued
            if not missing:
                break
        lost += sorted(name.decode("utf-8", "backslashreplace") for name in missing)
    if not lost:
        return []
    what = "they go out with the next span of theirs; please report it, it must not happen"
    return [Problem("traces in no queue", len(lost), tuple(lost[:_EXAMPLES]), what)]


def _servers(stats: BufferStats) -> Iterator[Problem]:
    evicting = [f"{node.node} {node.policy}" for node in stats.nodes if node.policy != "noeviction"]
    if evicting:
        yield Problem(
            "servers that may evict spans",
            len(evicting),
            tuple(evicting[:_EXAMPLES]),
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )


def _books(stats: BufferStats) -> Iterator[Problem]:
    if not stats.books.balanced:
        yield Problem(
            "books that do not balance",
            1,
            (str(stats.books),),
            "look again when nobody adds; then a failover lost writes (wait_replicas), or it is "
            "a mistake of ours: please report it",
        )


def _late(stats: BufferStats) -> Iterator[Problem]:
    late = [s for s in stats.shards if s.oldest_due_s is not None and s.oldest_due_s > _LATE_S]
    if late:
        yield Problem(
            "shards that nobody flushes, or too slowly",
            len(late),
            tuple(f"shard {s.shard}: {s.oldest_due_s:,.0f} s late" for s in late[:_EXAMPLES]),
            "start flushers (afterglow buffer flush), or more of them (--flushers)",
        )
