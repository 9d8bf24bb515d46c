"""Every key of the span buffer in Redis: owner, type and TTL are in docs/redis-keys.md.

A trace hashes to one of 64 index buckets; all that is known of it but its spread payloads is in
keys that carry the bucket's hash tag `{bN}`, so that one atomic script reads and writes it all.
Payloads that are too large to ride inside the index carry tags of their own, and so lie on
all nodes. Control keys (control_keys.py, and the books here) are the only ones without a TTL.
"""

from __future__ import annotations

from binascii import hexlify, unhexlify
from collections.abc import Collection
from zlib import crc32

__all__ = ["BUCKETS", "Keys", "bucket_of", "buckets_of", "shard_of", "trace_name", "trace_of"]

BUCKETS = 64


def bucket_of(project: bytes, trace_id: bytes) -> int:
    """The index bucket of a trace; it never changes, whatever the number of shards."""
    return crc32(trace_id, crc32(project)) % BUCKETS


def shard_of(bucket: int, shards: int) -> int:
    """The shard that owns a bucket."""
    return bucket % shards


def buckets_of(shards: Collection[int] | None, count: int) -> list[int]:
    """The buckets of some of `count` shards; None is all of them."""
    return [b for b in range(BUCKETS) if shards is None or shard_of(b, count) in shards]


def trace_name(project: bytes, trace_id: bytes) -> bytes:
    """How keys and queues name a trace: `project:trace`, the trace in hexadecimal digits."""
    return project + b":" + hexlify(trace_id)


def trace_of(name: bytes) -> tuple[str, bytes]:
    """Project and trace id of a name; a project may hold colons itself."""
    project, _, trace = name.rpartition(b":")
    return project.decode("utf-8", "surrogatepass"), unhexlify(trace)


class Keys:
    """The keys of one buffer, which share a prefix; all are bytes."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()
        tags = [b"{b%d}" % bucket for bucket in range(BUCKETS)]
        start = self.prefix + b":"
        #: ZSET, trace name -> when to look at it next (microseconds since 1970).
        self.queue = [start + b"q:" + tag for tag in tags]
        #: HASH, trace name -> how many spans it holds.
        self.counts = [start + b"n:" + tag for tag in tags]
        #: HASH, trace name -> who took which generation of it, and what was acknowledged.
        self.owners = [start + b"own:" + tag for tag in tags]
        #: HASH, counters of the bucket; a control key.
        self.books = [start + b"ctl:" + tag + b":books" for tag in tags]
        #: LIST of member entries, by name of the trace.
        self.members = [start + b"mk:" + tag + b":" for tag in tags]
        #: STRING, what went out of a trace: records of span ids, their root, and chunk ids.
        self.roots = [start + b"ssr:" + tag + b":" for tag in tags]
        #: LIST, more of the same where that string grew large.
        self.more_roots = [start + b"ssm:" + tag + b":" for tag in tags]
        self._spread = start + b"s:{"
        #: STRING, a zstd dictionary, by its id, in the slot of the entries that use it.
        self.dictionary = [start + b"zd:" + tag + b":" for tag in tags]
        #: STRING, the zstd dictionary that workers use now; a control key.
        self.training = start + b"ctl:{ctl}:dictionary"

    def colocated(self, name: bytes, chunk: bytes) -> bytes:
        """The payload of a chunk in its trace's own slot (the older layout)."""
        return b"%s%s}:%s" % (self._spread, name, hexlify(chunk))

    def distributed(self, name: bytes, chunk: bytes) -> bytes:
        """The payload of a chunk in a slot of its own."""
        chunk = hexlify(chunk)
        return b"%s%s:%s}:%s" % (self._spread, name, chunk, chunk)
