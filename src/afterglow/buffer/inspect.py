"""What an operator may ask of a buffer in Redis: how full, what waits, where a trace is.

Everything here reads, in small commands, one after the other: it may run beside a busy buffer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from afterglow.buffer.connect import Nodes, saying_so
from afterglow.buffer.control_keys import ControlKeys, script
from afterglow.buffer.keys import BUCKETS, Keys, bucket_of, shard_of, trace_name, trace_of
from afterglow.buffer.opening import books_of
from afterglow.buffer.rollout_plan import Held
from afterglow.config import BufferConfig
from afterglow.errors import NotFoundError
from afterglow.model.segment import BufferBooks

__all__ = [
    "SCAN",
    "BufferStats",
    "Inspector",
    "NodeStats",
    "SealState",
    "ShardStats",
    "TraceState",
    "in_lots",
    "literal",
]

#: One look at so many lists at most, and about so many bytes of entries: a millisecond.
_LISTS: Final = 100
_LOOK_BYTES: Final = 64 << 10
#: SCAN and its like look at so many keys or fields at once.
SCAN: Final = 250


class ShardStats(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in a shard. `oldest_due_s`: for how long the oldest has been due (None: none)."""

    shard: int
    host: str | None
    queued_traces: int
    due_traces: int
    held_spans: int
    oldest_due_s: float | None


class NodeStats(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of one master; `maxmemory_bytes` 0 is without a limit."""

    node: str
    used_bytes: int
    maxmemory_bytes: int
    keys: int
    policy: str


class BufferStats(msgspec.Struct, frozen=True, kw_only=True):
    """What `afterglow buffer stats` shows."""

    url: str
    books: BufferBooks
    shards: tuple[ShardStats, ...]
    nodes: tuple[NodeStats, ...]
    pressure: str | None


class SealState(msgspec.Struct, frozen=True, kw_only=True):
    """Who took a trace; `lease_s` is negative when the lease is over."""

    owner: str
    generation: int
    entries: int
    sealed_ns: int
    lease_s: float
    acknowledged_parts: int


class TraceState(msgspec.Struct, frozen=True, kw_only=True):
    """One trace of one project as it is held. `look_s`: in how many seconds it is looked at."""

    project: str
    trace_id: str
    bucket: int
    shard: int
    held_spans: int
    entries: int
    inline: int
    colocated_only: int
    distributed_only: int
    both: int
    look_s: float | None
    seal: SealState | None
    remembered_bytes: int
    ttl_s: int | None


class Inspector:
    """Reads; raises SpanBufferError where the server cannot be asked."""

    def __init__(self, nodes: Nodes, config: BufferConfig) -> None:
        self._nodes = nodes
        self._config = config
        self._keys = Keys(config.key_prefix)
        self._control = ControlKeys(config.key_prefix)

    def stats(self, now_ns: int) -> BufferStats:
        """How full it is, and what waits where; due or not by `now_ns`."""
        with saying_so(self._nodes.address):
            shards = self._shards(now_ns // 1_000)
            nodes = tuple(_node(name, client) for name, client in self._nodes.masters())
            pressure = self._nodes.client.get(self._control.pressure)
            return BufferStats(
                url=self._nodes.address.url,
                books=self.books(),
                shards=shards,
                nodes=nodes,
                pressure=pressure.decode("utf-8", "replace") if pressure else None,
            )

    def books(self) -> BufferBooks:
        """The books of all that share the buffer."""
        total: Counter[bytes] = Counter()
        for fields in self._ask(("hgetall", key) for key in self._keys.books):
            total.update({name: int(n) for name, n in fields.items()})
        return books_of(total)

    def held(self) -> Held:
        """How many entries are in one of the two layouts alone."""
        colocated = distributed = 0
        with saying_so(self._nodes.address):
            for bucket in range(BUCKETS):
                for names in in_lots(self._names(bucket), _LISTS):
                    for _, _, only_here, only_spread, _ in self._census(bucket, names):
                        colocated += only_here
                        distributed += only_spread
        return Held(colocated, distributed)

    def trace(self, trace_id: str, project: str | None, now_ns: int) -> list[TraceState]:
        """A trace by its 32 hexadecimal digits, in one project or in each that has it.

        Raises NotFoundError where nothing of it is held, nor remembered.
        """
        try:
            wanted = bytes.fromhex(trace_id)
        except ValueError:
            wanted = b""
        if len(wanted) != 16:
            raise NotFoundError(f"{trace_id!r} is no trace id: give its 32 hexadecimal digits")
        with saying_so(self._nodes.address):
            if project is not None:
                names = [trace_name(project.encode("utf-8", "surrogatepass"), wanted)]
            else:
                names = sorted(set(self._having(wanted)))
            found = [self._trace(name, now_ns) for name in names]
        states = [state for state in found if state.entries or state.seal or state.remembered_bytes]
        if not states:
            raise NotFoundError(
                f"nothing of trace {trace_id} is held, and nothing of it went out within the last "
                f"{self._config.tombstone_s:g} s (tombstone_s)"
            )
        return states

    # --- how -----------------------------------------------------------------------------------

    def _ask(self, commands: Iterator[tuple[Any, ...]]) -> list[Any]:
        with self._nodes.client.pipeline(transaction=False) as pipeline:
            for name, *arguments in commands:
                getattr(pipeline, name)(*arguments)
            found: list[Any] = pipeline.execute()
            return found

    def _names(self, bucket: int, match: bytes | None = None) -> Iterator[bytes]:
        for name, _ in self._nodes.client.hscan_iter(
            self._keys.counts[bucket], match=match, count=SCAN
        ):
            yield name

    def _having(self, trace_id: bytes) -> Iterator[bytes]:
        """Names of a trace, of whatever project: held, or remembered."""
        ending = b"*:" + trace_id.hex().encode()
        for bucket in range(BUCKETS):
            yield from self._names(bucket, ending)
        for _, client in self._nodes.masters():
            for key in client.scan_iter(literal(self._keys.prefix) + b":ssr:" + ending, SCAN):
                yield key.split(b"}:", 1)[1]

    def _census(self, bucket: int, names: Sequence[bytes]) -> list[list[int]]:
        """Length, and entries by layout, of each list."""
        keys = [self._keys.members[bucket] + name for name in names]
        total = [[0] * 5 for _ in keys]
        at = first = 0
        while at < len(keys):
            done, first, answers = self._nodes.client.eval(
                script("census"), len(keys) - at, *keys[at:], first, _LOOK_BYTES
            )
            for sums, (length, *counts) in zip(total[at:], answers, strict=False):
                sums[:] = [length, *(a + b for a, b in zip(sums[1:], counts, strict=True))]
            at += done
        return total

    def _shards(self, now_us: int) -> tuple[ShardStats, ...]:
        keys, count = self._keys, self._config.shards
        queued = self._ask(("zcard", key) for key in keys.queue)
        due = self._ask(("zcount", key, "-inf", now_us) for key in keys.queue)
        oldest = self._ask(
            ("zrange", key, 0, 0, False, True)
            for key in keys.queue  # with its score
        )
        # By the books, which are short: the counts of all traces would be one long answer.
        held = [
            books_of({name: int(n) for name, n in fields.items()}).held
            for fields in self._ask(("hgetall", key) for key in keys.books)
        ]
        hosts = self._ask(("get", self._control.shard(count, shard)) for shard in range(count))
        found = []
        for shard in range(count):
            ours = [b for b in range(BUCKETS) if shard_of(b, count) == shard]
            since = min((oldest[b][0][1] for b in ours if oldest[b]), default=None)
            late_s = None if since is None or since > now_us else (now_us - since) / 1e6
            found.append(
                ShardStats(
                    shard=shard,
                    host=hosts[shard].decode() if hosts[shard] else None,
                    queued_traces=sum(queued[b] for b in ours),
                    due_traces=sum(due[b] for b in ours),
                    held_spans=sum(held[b] for b in ours),
                    oldest_due_s=late_s,
                )
            )
        return tuple(found)

    def _trace(self, name: bytes, now_ns: int) -> TraceState:
        project, trace_id = trace_of(name)
        bucket = bucket_of(project.encode("utf-8", "surrogatepass"), trace_id)
        keys = self._keys
        ((entries, inline, colocated, distributed, both),) = self._census(bucket, [name])
        held, score, seal, ttl, roots = self._ask(
            iter(
                [
                    ("hget", keys.counts[bucket], name),
                    ("zscore", keys.queue[bucket], name),
                    ("hget", keys.owners[bucket], name),
                    ("ttl", keys.members[bucket] + name),
                    ("strlen", keys.roots[bucket] + name),
                ]
            )
        )
        return TraceState(
            project=project,
            trace_id=trace_id.hex(),
            bucket=bucket,
            shard=shard_of(bucket, self._config.shards),
            held_spans=int(held or 0),
            entries=entries,
            inline=inline,
            colocated_only=colocated,
            distributed_only=distributed,
            both=both,
            look_s=None if score is None else score / 1e6 - now_ns / 1e9,
            seal=_seal(seal, now_ns) if seal else None,
            remembered_bytes=int(roots),
            ttl_s=ttl if ttl >= 0 else None,
        )


def _node(name: str, client: Any) -> NodeStats:
    memory = client.info("memory")
    return NodeStats(
        node=name,
        used_bytes=int(memory["used_memory"]),
        maxmemory_bytes=int(memory.get("maxmemory") or 0),
        keys=int(client.dbsize()),
        policy=str(memory.get("maxmemory_policy", "unknown")),
    )


def _seal(packed: bytes, now_ns: int) -> SealState:
    generation, _, lease_us, entries, sealed_ns, owner, acknowledged, *_ = msgspec.msgpack.decode(
        packed, strict=False
    )
    return SealState(
        owner=_text(owner),
        generation=int(generation),
        entries=int(entries),
        sealed_ns=int(_text(sealed_ns)),
        lease_s=float(lease_us) / 1e6 - now_ns / 1e9,
        acknowledged_parts=len([word for word in _text(acknowledged).split(",") if word]),
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def in_lots(items: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Lists of so many at most (itertools.batched is not in Python 3.11)."""
    lot: list[bytes] = []
    for item in items:
        lot.append(item)
        if len(lot) == size:
            yield lot
            lot = []
    if lot:
        yield lot


def literal(prefix: bytes) -> bytes:
    """A prefix for MATCH, in which nothing is a wildcard."""
    return b"".join(b"\\%c" % c if c in b"*?[]\\" else b"%c" % c for c in prefix)
